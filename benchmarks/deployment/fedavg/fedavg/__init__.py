"""FedAvg over a vector of float32 elements, with no training at all."""
