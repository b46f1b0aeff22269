"""What does it cost? Training steps and their parts, beside timm's own."""
