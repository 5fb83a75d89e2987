"""Run generators: PyTorch or ONNX Runtime, number format, memory layout, batch size."""
