# What does a chat look like without any client?  Whole, streamed, with a tool, in a schema, and in the background: with curl.
#
#     export OPENAI_BASE_URL=http://127.0.0.1:8700/v1 OPENAI_API_KEY=sk-tram-...
#     sh examples/chat.sh

chat() {
  curl -sSN --fail-with-body "$OPENAI_BASE_URL/$1" -H "Authorization: Bearer $OPENAI_API_KEY" -d "$2"
  echo
}

chat chat/completions '{"messages": [{"role": "user", "content": "What is the capital of France?"}]}'

chat chat/completions '{"messages": [{"role": "user", "content": "What is the capital of France?"}], "stream": true}'

chat chat/completions '{"messages": [{"role": "user", "content": "What is the weather in London?"}],
  "tools": [{"type": "function", "function": {"name": "get_weather", "parameters": {
    "type": "object", "properties": {"location": {"type": "string"}}, "required": ["location"]}}}]}'

chat chat/completions '{"messages": [{"role": "user", "content": "Give me the capital of Norway as JSON with city and country."}],
  "response_format": {"type": "json_schema", "json_schema": {"name": "capital", "schema": {
    "type": "object", "properties": {"city": {"type": "string"}, "country": {"type": "string"}}, "required": ["city", "country"]}}}}'

chat jobs '{"messages": [{"role": "user", "content": "What is 6 times 7?"}], "metadata": {"order": "4711"}}'
