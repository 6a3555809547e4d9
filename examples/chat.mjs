// How does OpenAI's client for Node talk to Tramontane?  As to OpenAI: two variables say where it is and who calls.
//
//     export OPENAI_BASE_URL=http://127.0.0.1:8700/v1 OPENAI_API_KEY=sk-tram-...
//     npm install openai && node chat.mjs        (in a folder of yours)

import OpenAI from "openai";

const client = new OpenAI();
const stream = await client.chat.completions.create({
  model: "tram-demo",
  messages: [{ role: "user", content: "What is Tramontane?" }],
  stream: true,
});
for await (const chunk of stream) {
  process.stdout.write(chunk.choices[0].delta.content ?? "");
}
process.stdout.write("\n");
