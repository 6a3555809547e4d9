// What does OpenAI's client for Node do with Tramontane?  Chats, streams, tools, schemas, stored completions, files, batches and errors.
//
//     export OPENAI_BASE_URL=http://127.0.0.1:8700/v1 OPENAI_API_KEY=sk-tram-...
//     npm ci && node openai.mjs                  (in this folder)

import OpenAI, { toFile } from "openai";

const client = new OpenAI();
const model = "tram-demo";
const user = (content) => ({ role: "user", content });
const ask = (messages, more) => client.chat.completions.create({ model, messages, ...more });

async function stream() {
  let text = "";
  for await (const chunk of await ask([user("What is the capital of France?")], { stream: true })) {
    text += chunk.choices[0].delta.content ?? "";
  }
  console.log(text);
}

async function callATool() {
  const parameters = { type: "object", properties: { location: { type: "string" } }, required: ["location"] };
  const tools = [{ type: "function", function: { name: "get_weather", parameters } }];
  const messages = [user("What is the weather in London?")];
  const asked = (await ask(messages, { tools })).choices[0].message;
  const call = asked.tool_calls[0];
  console.log(call.function.name, call.function.arguments);
  const told = { role: "tool", tool_call_id: call.id, content: '{"temperature": 14, "conditions": "cloudy"}' };
  console.log((await ask([...messages, asked, told], { tools })).choices[0].message.content);
}

async function answerInASchema() {
  const text = { type: "string" };
  const schema = { type: "object", properties: { city: text, country: text }, required: ["city", "country"] };
  const response_format = { type: "json_schema", json_schema: { name: "capital", schema, strict: true } };
  const question = "Give me the capital of Norway as JSON with city and country.";
  console.log(JSON.parse((await ask([user(question)], { response_format })).choices[0].message.content).city);
}

async function keepAndFind() {
  const metadata = { example: "openai-node" };
  const made = await ask([user("What is 6 times 7?")], { store: true, metadata });
  const stored = (await client.chat.completions.list({ metadata })).data[0];
  console.log(stored.id === made.id, stored.choices[0].message.content);
  console.log((await client.chat.completions.update(made.id, { metadata: { example: "kept" } })).metadata.example);
  console.log((await client.chat.completions.delete(made.id)).deleted);
}

async function answerAFile() {
  const row = { custom_id: "one", method: "POST", url: "/v1/chat/completions", body: { model, messages: [user("What is 6 times 7?")] } };
  const file = await client.files.create({ file: await toFile(Buffer.from(JSON.stringify(row)), "rows.jsonl"), purpose: "batch" });
  const endpoint = "/v1/chat/completions";
  let batch = await client.batches.create({ input_file_id: file.id, endpoint, completion_window: "24h" });
  while (!["completed", "failed", "expired", "cancelled"].includes(batch.status)) {
    await new Promise((resolve) => setTimeout(resolve, 500));
    batch = await client.batches.retrieve(batch.id);
  }
  const [line] = (await (await client.files.content(batch.output_file_id)).text()).trim().split("\n");
  console.log(batch.status, JSON.parse(line).response.body.choices[0].message.content);
  console.log((await client.files.delete(file.id)).deleted);
}

async function beRefused() {
  const without = new OpenAI({ apiKey: "sk-nobody", maxRetries: 0 });
  const asked = [
    () => ask([user("Hello!")], { temperature: 9 }),
    () => ask([user("Hello!")], { model: "gpt-9" }),
    () => without.models.list(),
  ];
  for (const one of asked) {
    await one().catch((error) => console.log(error.constructor.name, error.status, error.param, error.code));
  }
}

for (const step of [stream, callATool, answerInASchema, keepAndFind, answerAFile, beRefused]) {
  await step();
}
