"""What a training leaves behind: its log and lock, and names for tensors by their bits."""
