"""How networks are executed: PyTorch or ONNX Runtime, number format, memory layout, batches."""
