"""The commands of `ai-proxy-service`; without one it serves."""
