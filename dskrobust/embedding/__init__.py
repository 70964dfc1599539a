"""Embeddings: what a model makes of every row, as a store of its own."""

from .embedding import embed
from .options import EmbeddingOptions

__all__ = ["EmbeddingOptions", "embed"]
