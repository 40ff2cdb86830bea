// Checks with openai-node.

import assert from 'node:assert/strict';

import OpenAI from 'openai';
import { zodResponseFormat } from 'openai/helpers/zod';
import { z } from 'zod';

import {
  bodies, check, EMBEDDING, fault, FLASH_25, FLASH_3, FLASH_38, parts, runAll, SENTINEL, WEATHER_CALL,
} from './harness.mjs';

const client = new OpenAI({ maxRetries: 0, timeout: 60_000 });
const patient = new OpenAI({ maxRetries: 2, timeout: 60_000 });
const chat = client.chat.completions;
const user = (content) => [{ role: 'user', content }];
const tool = (name, properties) => ({
  type: 'function',
  function: {
    name,
    ...(properties && { parameters: { type: 'object', properties, required: Object.keys(properties) } }),
  },
});
const WEATHER = tool('get_weather', { city: { type: 'string' } });
const CLOCK = tool('get_time', { zone: { type: 'string' } });

async function collect(stream) {
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);
  return chunks;
}

check('01 a plain answer', async () => {
  const answer = await chat.create({ model: FLASH_25, messages: user('hello there') });
  assert.match(answer.choices[0].message.content, /hello there/);
  assert.equal(answer.choices[0].finish_reason, 'stop');
  assert.match(answer._request_id, /^req_/);
  for (const name of ['prompt_tokens', 'completion_tokens', 'total_tokens']) {
    assert.ok(Number.isInteger(answer.usage[name]) && answer.usage[name] > 0, name);
  }
});

check('02 a stream names its role once and finishes once', async () => {
  const chunks = await collect(await chat.create({ model: FLASH_25, messages: user('hi'), stream: true }));
  const roles = chunks.map((chunk) => chunk.choices[0].delta.role);
  assert.equal(roles[0], 'assistant');
  assert.ok(roles.slice(1).every((role) => role === undefined));
  const finishes = chunks.map((chunk) => chunk.choices[0].finish_reason).filter(Boolean);
  assert.deepEqual(finishes, ['stop']);
});

check('04 usage comes once and last', async () => {
  const chunks = await collect(await chat.create({
    model: FLASH_25, messages: user('hi'), stream: true, stream_options: { include_usage: true },
  }));
  const last = chunks.pop();
  assert.deepEqual(last.choices, []);
  assert.ok(last.usage.total_tokens > 0);
  for (const chunk of chunks) assert.equal(chunk.usage, null);
});

check('07 a tool is called', async () => {
  for (const model of [FLASH_25, FLASH_3, FLASH_38]) {
    const answer = await chat.create({ model, messages: user(WEATHER_CALL), tools: [WEATHER] });
    const [call] = answer.choices[0].message.tool_calls;
    assert.ok(call.id);
    assert.equal(call.function.name, 'get_weather');
    assert.deepEqual(JSON.parse(call.function.arguments), { city: 'Oslo' });
    assert.equal(answer.choices[0].finish_reason, 'tool_calls');
  }
});

check('08 the stream helper neither doubles nor tears a call', async () => {
  for (const model of [FLASH_25, FLASH_3, FLASH_38]) {
    for (const finish of ['merged', 'empty_text', 'role', 'absent']) {
      const messages = user(`${WEATHER_CALL} [[sim thoughts=4 finish_chunk=${finish}]]`);
      const final = await chat.stream({ model, messages, tools: [WEATHER] }).finalChatCompletion();
      const [call, ...more] = final.choices[0].message.tool_calls;
      assert.equal(more.length, 0);
      assert.equal(call.function.name, 'get_weather');
      assert.deepEqual(JSON.parse(call.function.arguments), { city: 'Oslo' });
      assert.equal(final.choices[0].finish_reason, 'tool_calls');
    }
  }
});

check('09 parallel calls have an index each', async () => {
  for (const model of [FLASH_25, FLASH_38]) {
    const messages = user('[[sim call=get_weather,get_time]]');
    const chunks = await collect(await chat.create({ model, messages, tools: [WEATHER, CLOCK], stream: true }));
    const calls = chunks.flatMap((chunk) => chunk.choices[0].delta.tool_calls ?? []);
    assert.deepEqual(calls.map((call) => call.index), [0, 1]);
    assert.deepEqual(calls.map((call) => call.function.name), ['get_weather', 'get_time']);
    assert.equal(new Set(calls.map((call) => call.id)).size, 2);
    const final = await chat.stream({ model, messages, tools: [WEATHER, CLOCK] }).finalChatCompletion();
    assert.equal(final.choices[0].message.tool_calls.length, 2);
  }
});

check('10 a call without arguments has an empty object', async () => {
  const messages = user('[[sim call=ping]]');
  const answer = await chat.create({ model: FLASH_25, messages, tools: [tool('ping')] });
  assert.equal(answer.choices[0].message.tool_calls[0].function.arguments, '{}');
});

check('11 runTools goes round, and the signature with it', async () => {
  for (const model of [FLASH_25, FLASH_3, FLASH_38]) {
    for (const stream of [false, true]) {
      const before = (await bodies()).length;
      const weather = {
        type: 'function',
        function: {
          ...WEATHER.function,
          parse: JSON.parse,
          function: ({ city }) => `3 degrees in ${city}`,
        },
      };
      const runner = chat.runTools({ model, messages: user(`Oslo ${WEATHER_CALL}`), tools: [weather], stream });
      assert.match(await runner.finalContent(), /3 degrees in Oslo/);
      const [, body] = (await bodies()).slice(before);
      const [sent] = parts(body, 'functionCall');
      if (model !== FLASH_25) {
        assert.ok(sent.thoughtSignature);
        assert.notEqual(sent.thoughtSignature, SENTINEL);
      }
      const [answered] = parts(body, 'functionResponse');
      assert.equal(answered.functionResponse.id, sent.functionCall.id);
    }
  }
});

check('18 a call without its result', async () => {
  const calls = [{ id: 'a', type: 'function', function: { name: 'f', arguments: '{}' } }];
  const messages = [...user('hi'), { role: 'assistant', content: null, tool_calls: calls }, ...user('on')];
  await assert.rejects(chat.create({ model: FLASH_25, messages, tools: [tool('f')] }), (error) => {
    assert.ok(error instanceof OpenAI.BadRequestError, error);
    assert.equal(error.param, 'messages');
    return true;
  });
});

check('23 parse gives the object', async () => {
  const Place = z.object({ city: z.string(), people: z.number().int() });
  const options = { messages: user('Tell me of Oslo'), response_format: zodResponseFormat(Place, 'place') };
  for (const model of [FLASH_25, FLASH_38]) {
    const answer = await chat.parse({ model, ...options });
    Place.parse(answer.choices[0].message.parsed);
    const final = await chat.stream({ model, ...options }).finalChatCompletion();
    Place.parse(final.choices[0].message.parsed);
  }
});

check('46 a wrong key', async () => {
  const stranger = new OpenAI({ apiKey: 'sk-wrong-0000000000000000', maxRetries: 2 });
  await assert.rejects(stranger.chat.completions.create({ model: FLASH_25, messages: user('hi') }), (error) => {
    assert.ok(error instanceof OpenAI.AuthenticationError, error);
    assert.equal(error.code, 'invalid_api_key');
    return true;
  });
  assert.deepEqual(await bodies(), []);
});

check('48 an unknown model', async () => {
  await assert.rejects(patient.chat.completions.create({ model: 'gemini-0.1', messages: user('hi') }), (error) => {
    assert.ok(error instanceof OpenAI.BadRequestError, error);
    assert.equal(error.code, 'model_not_found');
    return true;
  });
  await assert.rejects(patient.models.retrieve('gemini-0.1'), OpenAI.NotFoundError);
});

check('49 a short limit is waited for', async () => {
  await fault({ error: 'quota_minute', retry_delay: 1 });
  const answer = await patient.chat.completions.create({ model: FLASH_25, messages: user('hi') });
  assert.equal(answer.choices[0].finish_reason, 'stop');
  assert.equal((await bodies()).length, 2);
});

check('50 a daily quota is not waited for', async () => {
  await fault({ error: 'quota_day', times: 3 });
  await assert.rejects(patient.chat.completions.create({ model: FLASH_25, messages: user('hi') }), (error) => {
    assert.ok(error instanceof OpenAI.RateLimitError, error);
    assert.equal(error.code, 'insufficient_quota');
    return true;
  });
  assert.equal((await bodies()).length, 1);
});

check('52 a torn stream is an error', async () => {
  for (const order of ['cut_after=4', 'finish=none tokens=5', 'error_after=3']) {
    const stream = await patient.chat.completions.create({
      model: FLASH_25, messages: user(`hi [[sim ${order}]]`), stream: true,
    });
    await assert.rejects(collect(stream), (error) => {
      assert.ok(error instanceof OpenAI.APIError, error);
      assert.equal(error.status, undefined);
      assert.ok(error.code);
      return true;
    });
  }
});

check('58 embeddings are the same in both encodings', async () => {
  const input = ['one', 'two', 'one'];
  const packed = await client.embeddings.create({ model: EMBEDDING, input });
  const plain = await client.embeddings.create({ model: EMBEDDING, input, encoding_format: 'float' });
  packed.data.forEach(({ embedding }, index) => {
    assert.equal(embedding.length, 3072);
    embedding.forEach((value, place) => {
      assert.ok(Math.abs(value - plain.data[index].embedding[place]) < 1e-6);
    });
  });
  const short = await client.embeddings.create({ model: EMBEDDING, input: 'one', dimensions: 256 });
  assert.equal(short.data[0].embedding.length, 256);
  assert.ok(Math.abs(Math.hypot(...short.data[0].embedding) - 1) < 1e-5);
});

check('60 models are named without prefix and found with it', async () => {
  const names = [];
  for await (const model of client.models.list()) names.push(model.id);
  assert.ok(names.includes(FLASH_25));
  assert.ok(names.every((name) => !name.includes('/')));
  assert.equal((await client.models.retrieve(`models/${FLASH_25}`)).id, FLASH_25);
});

await runAll();
