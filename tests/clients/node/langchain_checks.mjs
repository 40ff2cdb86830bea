// Checks with LangChain in JavaScript.

import assert from 'node:assert/strict';

import { HumanMessage, ToolMessage } from '@langchain/core/messages';
import { tool } from '@langchain/core/tools';
import { ChatOpenAI, OpenAIEmbeddings } from '@langchain/openai';
import { z } from 'zod';

import {
  API_KEY, BASE_URL, bodies, check, EMBEDDING, FLASH_25, FLASH_3, FLASH_38, parts, runAll, SENTINEL, WEATHER_CALL,
} from './harness.mjs';

const configuration = { baseURL: BASE_URL, apiKey: API_KEY };
const chat = (model, options) => new ChatOpenAI({ model, configuration, apiKey: API_KEY, maxRetries: 0, ...options });
const weather = tool(async ({ city }) => `3 degrees in ${city}`, {
  name: 'get_weather',
  description: 'Tell the weather of a city',
  schema: z.object({ city: z.string() }),
});
const clock = tool(async ({ zone }) => `noon in ${zone}`, {
  name: 'get_time',
  description: 'Tell the time in a zone',
  schema: z.object({ zone: z.string() }),
});

async function streamed(runnable, input) {
  let whole;
  for await (const chunk of await runnable.stream(input)) whole = whole ? whole.concat(chunk) : chunk;
  return whole;
}

check("06 a stream's usage is that of the whole answer", async () => {
  const order = 'think [[sim thoughts=7 tokens=9]]';
  const model = chat(FLASH_25, { reasoningEffort: 'low', streamUsage: true });
  const whole = await model.invoke(order);
  const pieces = await streamed(model, order);
  assert.equal(pieces.content, whole.content);
  assert.equal(whole.usage_metadata.output_tokens, 16);
  for (const name of ['input_tokens', 'output_tokens', 'total_tokens']) {
    assert.equal(pieces.usage_metadata[name], whole.usage_metadata[name], name);
  }
});

check('09 parallel calls are both kept', async () => {
  for (const model of [FLASH_25, FLASH_38]) {
    const bound = chat(model).bindTools([weather, clock]);
    const message = await streamed(bound, '[[sim call=get_weather,get_time]]');
    assert.deepEqual(message.tool_calls.map((call) => call.name), ['get_weather', 'get_time']);
    assert.equal(new Set(message.tool_calls.map((call) => call.id)).size, 2);
  }
});

check('12 a signature that the client drops is remembered', async () => {
  for (const model of [FLASH_3, FLASH_38]) {
    for (const ask of [(bound, input) => bound.invoke(input), streamed]) {
      const before = (await bodies()).length;
      const bound = chat(model).bindTools([weather]);
      const history = [new HumanMessage(`Oslo ${WEATHER_CALL}`)];
      const message = await ask(bound, history);
      const [call] = message.tool_calls;
      assert.deepEqual(call.args, { city: 'Oslo' });
      history.push(message, new ToolMessage({ content: '3 degrees', tool_call_id: call.id }));
      const answer = await ask(bound, history);
      assert.match(answer.content, /3 degrees/);
      const [, body] = (await bodies()).slice(before);
      const [sent] = parts(body, 'functionCall');
      assert.ok(sent.thoughtSignature);
      assert.notEqual(sent.thoughtSignature, SENTINEL);
    }
  }
});

async function structured(method) {
  const Place = z.object({ city: z.string(), people: z.number().int() });
  for (const model of [FLASH_25, FLASH_38]) {
    const text = JSON.stringify({ city: 'Oslo', people: 3 }).replaceAll('"', '\\"');
    const order = `Tell me of Oslo as JSON ${method === 'jsonMode' ? `[[sim answer="${text}"]]` : ''}`;
    Place.parse(await chat(model).withStructuredOutput(Place, { method, name: 'place' }).invoke(order));
  }
}

check('24 structured output by jsonSchema', () => structured('jsonSchema'));

check('24 structured output by functionCalling', () => structured('functionCalling'));

check('24 structured output by jsonMode', () => structured('jsonMode'));

check('34 reasoning is kept apart', async () => {
  const model = chat(FLASH_38, { reasoningEffort: 'low' });
  const message = await streamed(model, 'think [[sim thoughts=12 answer="so be it"]]');
  assert.equal(message.content, 'so be it');
  assert.ok(message.additional_kwargs.reasoning_content);
});

check('58 embeddings', async () => {
  const client = new OpenAIEmbeddings({ model: EMBEDDING, configuration, apiKey: API_KEY, maxRetries: 0 });
  const [one, two, again] = await client.embedDocuments(['one', 'two', 'one']);
  assert.equal(one.length, 3072);
  assert.deepEqual(one, again);
  assert.notDeepEqual(one, two);
});

await runAll();
