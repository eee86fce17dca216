"""`consortium coordinator serve`: SuperLink, fence, registry service and one process for each run, kept as the registry wants them."""
