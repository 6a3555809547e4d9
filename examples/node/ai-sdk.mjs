// How does Vercel's AI SDK talk to Tramontane?  As to any OpenAI-compatible provider.
//
//     export OPENAI_BASE_URL=http://127.0.0.1:8700/v1 OPENAI_API_KEY=sk-tram-...
//     npm ci && node ai-sdk.mjs                  (in this folder)

import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { Output, generateText, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";

const tramontane = createOpenAICompatible({
  name: "tramontane",
  baseURL: process.env.OPENAI_BASE_URL,
  apiKey: process.env.OPENAI_API_KEY,
  supportsStructuredOutputs: true,
  includeUsage: true,
});
const model = tramontane("tram-demo");

async function stream() {
  const answer = streamText({ model, prompt: "What is the capital of France?" });
  for await (const text of answer.textStream) {
    process.stdout.write(text);
  }
  const { inputTokens, outputTokens } = await answer.usage;
  console.log(inputTokens > 0 && outputTokens > 0 ? "" : " (no usage)");
}

async function callATool() {
  const getWeather = tool({
    description: "Get the current weather",
    inputSchema: z.object({ location: z.string() }),
    execute: async ({ location }) => {
      console.log("get_weather", location);
      return { temperature: 14, conditions: "cloudy" };
    },
  });
  const prompt = "What is the weather in London?";
  const answer = streamText({ model, prompt, tools: { get_weather: getWeather }, stopWhen: stepCountIs(2) });
  for await (const text of answer.textStream) {
    process.stdout.write(text);
  }
  console.log();
}

async function answerInASchema() {
  const schema = z.object({ city: z.string(), country: z.string() });
  const prompt = "Give me the capital of Norway as JSON with city and country.";
  const { output } = await generateText({ model, prompt, output: Output.object({ schema }) });
  console.log(output.city, output.country);
}

for (const step of [stream, callATool, answerInASchema]) {
  await step();
}
