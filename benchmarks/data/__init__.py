"""Data whose truth is known: real objects on cluttered canvases, and image folders of them."""
