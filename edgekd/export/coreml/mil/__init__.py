"""Evaluation of a saved Core ML package in torch.

Core ML predicts on Apple's systems only. What was saved can be checked
anywhere: this package reads an .mlpackage folder (its MIL program and its
stored, possibly compressed, weights) and evaluates it operation by operation.
It checks the graph and the stored weights; arithmetic is float32, so fp16
arithmetic and Apple's runtime stay unchecked.
"""
