"""The registry service: gRPC with mutual TLS. A file per noun holds its methods; `methods.py` lists them all."""
