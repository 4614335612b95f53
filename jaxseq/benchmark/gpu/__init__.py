"""The benchmark of one GPU: layers, training steps and generation by each kernel and by peers, within a time budget."""
