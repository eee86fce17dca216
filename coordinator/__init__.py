"""The operator's side: runs, rounds, the registry and released model versions. No torch, no client code."""
