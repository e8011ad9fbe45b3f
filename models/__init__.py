"""Flax modules and what runs inside jit: front end, encoders, transducer, decoding."""
