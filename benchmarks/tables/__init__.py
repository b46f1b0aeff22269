"""Do our figures match the paper's tables? Train their rows by timm's script, and compare."""
