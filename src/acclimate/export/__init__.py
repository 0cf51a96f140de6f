"""ONNX: graph, quantisation, parity, latency and prediction from raw text."""
