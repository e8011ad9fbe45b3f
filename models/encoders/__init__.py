"""Encoders: features in, one vector a frame out, whole or in chunks."""
