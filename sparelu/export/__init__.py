"""A network in other formats: ONNX, C, NumPy."""
