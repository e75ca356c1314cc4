"""Engines that run a model without torch: numpy in, numpy out."""

from sslprune.runtime.onnx_model import OnnxModel, open_onnx

__all__ = ["OnnxModel", "open_onnx"]
