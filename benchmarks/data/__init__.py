"""Data whose truth is known: real objects on cluttered canvases."""
