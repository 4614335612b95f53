"""ONNX graphs of trained models, a module for each domain; `builder` makes nodes and `layers` what networks share.

Opset 17. ONNX's `RNN`, `LSTM` and `GRU` scan over "t b d", so the networks have time first.
"""
