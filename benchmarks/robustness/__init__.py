"""How robust are trained models? Clean, attacked, occluded and corrupted images, for one or several checkpoints."""
