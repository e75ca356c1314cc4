"""Engines: ONNX files without torch, numpy in and numpy out; and, in `engine`, pruned networks on their non-zeros."""

from sslprune.runtime.onnx_model import OnnxModel, open_onnx

__all__ = ["OnnxModel", "open_onnx"]
