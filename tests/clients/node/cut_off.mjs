// Reads one stream that ends for lack of credit, and tells what openai-node made of it.

import OpenAI from 'openai';

const client = new OpenAI({ maxRetries: 0, timeout: 60_000 });
const seen = { words: 0, finishes: [], usage: null, error: null };
let text = '';
try {
  const stream = await client.chat.completions.create({
    model: 'gemini-2.5-flash',
    messages: [{ role: 'user', content: process.env.TEXT }],
    user: process.env.ACCOUNT,
    stream: true,
    stream_options: { include_usage: true },
  });
  for await (const chunk of stream) {
    text += chunk.choices[0]?.delta.content ?? '';
    if (chunk.choices[0]?.finish_reason) seen.finishes.push(chunk.choices[0].finish_reason);
    seen.usage = chunk.usage ?? seen.usage;
  }
} catch (error) {
  seen.error = {
    name: error.name, status: error.status ?? null, code: error.code, type: error.type,
  };
}
seen.words = text.split(/\s+/).filter(Boolean).length;
process.stdout.write(JSON.stringify(seen));
