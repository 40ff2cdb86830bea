"""How the proxy under test is set up."""

CLIENT_KEY = "sk-client-7b1e9d5c3a2f4860"
GEMINI_KEY = "AIzaCanary7b1e9d5c3a2f4860"
PATH = "/v1/chat/completions"
# The limit that the proxy sends where the client sets none.
OUTPUT_TOKENS_MAX = 65_536
# The prices of every model: per token, and per search on the web or the map, in nano-USD.
INPUT_NANOS = 300
OUTPUT_NANOS = 2_500
LOOKUP_NANOS = 14_000_000
PICO_PER_NANO = 1_000
