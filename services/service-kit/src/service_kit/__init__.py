"""What both services need and no more: mechanisms, never one service's policy."""
