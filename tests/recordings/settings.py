"""How the proxy under test is set up."""

CLIENT_KEY = "sk-client-7b1e9d5c3a2f4860"
GEMINI_KEY = "AIzaCanary7b1e9d5c3a2f4860"
PATH = "/v1/chat/completions"
# The limit that the proxy sends where the client sets none.
OUTPUT_TOKENS_MAX = 65_536
