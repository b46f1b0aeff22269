"""What do the committed results say? The tables and plots of the pages, made from JSON alone, without training code."""
