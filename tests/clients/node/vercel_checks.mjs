// Checks with the Vercel AI SDK: its OpenAI-compatible provider, and OpenAI's own for chat.

import assert from 'node:assert/strict';

import { createOpenAI } from '@ai-sdk/openai';
import { createOpenAICompatible } from '@ai-sdk/openai-compatible';
import { embedMany, generateObject, generateText, Output, stepCountIs, streamObject, streamText, tool } from 'ai';
import { z } from 'zod';

import {
  API_KEY, BASE_URL, bodies, check, EMBEDDING, FLASH_25, FLASH_3, FLASH_38, parts, runAll, SENTINEL, WEATHER_CALL,
} from './harness.mjs';

globalThis.AI_SDK_LOG_WARNINGS = false;

const compatible = createOpenAICompatible({
  name: 'gateway', baseURL: BASE_URL, apiKey: API_KEY, includeUsage: true, supportsStructuredOutputs: true,
});
const openai = createOpenAI({ baseURL: BASE_URL, apiKey: API_KEY });
const providers = { compatible: (model) => compatible(model), openai: (model) => openai.chat(model) };
const Place = z.object({ city: z.string(), people: z.number().int() });
const tools = {
  get_weather: tool({
    description: 'Tell the weather of a city',
    inputSchema: z.object({ city: z.string() }),
    execute: async ({ city }) => `3 degrees in ${city}`,
  }),
};

// each runs a check with both providers and every model.
async function each(models, run) {
  for (const [name, provider] of Object.entries(providers)) {
    for (const model of models) {
      try {
        await run(provider(model), name, model);
      } catch (error) {
        throw new Error(`${name} ${model}: ${error?.stack ?? error}`);
      }
    }
  }
}

// Errors of a stream are looked at in its parts, not logged.
const quiet = { maxRetries: 0, onError: () => {} };

// streamed reads a stream to its end and throws its error, if it has one.
async function streamed(options) {
  const result = streamText({ ...options, ...quiet });
  for await (const part of result.fullStream) if (part.type === 'error') throw part.error;
  return result;
}

// streamedObject reads a stream of an object to its end.
async function streamedObject(options) {
  const result = streamObject({ ...options, ...quiet });
  for await (const partial of result.partialObjectStream) assert.equal(typeof partial, 'object');
  return result.object;
}

const generated = (options) => generateText({ ...options, maxRetries: 0 });

check('02 a stream, its end and its usage', async () => {
  await each([FLASH_25, FLASH_38], async (model) => {
    const result = await streamed({ model, prompt: 'say [[sim answer="one two"]]' });
    assert.equal(await result.text, 'one two');
    assert.equal(await result.finishReason, 'stop');
    const usage = await result.totalUsage;
    assert.ok(usage.inputTokens > 0 && usage.outputTokens > 0, JSON.stringify(usage));
  });
});

check('15 a tool loop ends, and the signature comes back as extra_content', async () => {
  for (const model of [FLASH_25, FLASH_3, FLASH_38]) {
    for (const start of [generated, streamed]) {
      const before = (await bodies()).length;
      const result = await start({
        model: compatible(model), tools, stopWhen: stepCountIs(4), prompt: `Oslo ${WEATHER_CALL}`,
      });
      assert.match(await result.text, /3 degrees in Oslo/);
      const steps = await result.steps;
      assert.equal(steps.length, 2);
      assert.equal(steps[0].finishReason, 'tool-calls');
      const [call] = steps[0].toolCalls;
      const [, body] = (await bodies()).slice(before);
      const [sent] = parts(body, 'functionCall');
      const [told] = Object.values(call.providerMetadata ?? {}).map((entry) => entry.thoughtSignature);
      assert.equal(told, sent.thoughtSignature);
      if (model !== FLASH_25) assert.ok(told && told !== SENTINEL, told);
    }
  }
});

check("15 a tool loop of OpenAI's provider, which drops the signature, ends too", async () => {
  for (const model of [FLASH_25, FLASH_3, FLASH_38]) {
    const before = (await bodies()).length;
    const result = await streamed({
      model: openai.chat(model), tools, stopWhen: stepCountIs(4), prompt: `Oslo ${WEATHER_CALL}`,
    });
    assert.match(await result.text, /3 degrees in Oslo/);
    const [, body] = (await bodies()).slice(before);
    const [sent] = parts(body, 'functionCall');
    if (model !== FLASH_25) assert.ok(sent.thoughtSignature && sent.thoughtSignature !== SENTINEL);
  }
});

check('25 generateObject gives the object', async () => {
  await each([FLASH_25, FLASH_38], async (model) => {
    const prompt = 'Tell me of Oslo as JSON';
    Place.parse((await generateObject({ model, schema: Place, prompt, maxRetries: 0 })).object);
    Place.parse(await streamedObject({ model, schema: Place, prompt }));
    const output = Output.object({ schema: Place });
    Place.parse((await generated({ model, output, prompt })).output);
  });
});

check('34 reasoning comes as parts of its own', async () => {
  const prompt = 'think [[sim thoughts=12 answer="so be it"]]';
  const providerOptions = { gateway: { reasoningEffort: 'low' } };
  for (const model of [FLASH_25, FLASH_38]) {
    const result = await streamed({ model: compatible(model), prompt, providerOptions });
    assert.equal(await result.text, 'so be it');
    assert.ok(await result.reasoningText);
    const usage = await result.totalUsage;
    assert.equal(usage.outputTokenDetails?.reasoningTokens ?? usage.reasoningTokens, 12);
    const whole = await generated({ model: compatible(model), prompt, providerOptions });
    assert.equal(whole.text, 'so be it');
    assert.ok(whole.reasoningText);
  }
});

check('43 a block is told as a content filter', async () => {
  await each([FLASH_25], async (model) => {
    const result = await streamed({ model, prompt: 'bad [[sim block=SAFETY]]' });
    assert.equal(await result.finishReason, 'content-filter');
  });
});

check('52 a torn stream ends as an error', async () => {
  await each([FLASH_25], async (model) => {
    for (const order of ['cut_after=4', 'finish=none tokens=5', 'error_after=3']) {
      const seen = [];
      const result = streamText({ model, prompt: `hi [[sim ${order}]]`, ...quiet });
      for await (const part of result.fullStream) seen.push(part.type);
      assert.ok(seen.includes('error'), `${order}: ${seen}`);
    }
  });
});

check('58 embeddings', async () => {
  const models = [compatible.embeddingModel(EMBEDDING), openai.embedding(EMBEDDING)];
  for (const model of models) {
    const { embeddings } = await embedMany({ model, values: ['one', 'two', 'one'], maxRetries: 0 });
    assert.equal(embeddings[0].length, 3072);
    assert.deepEqual(embeddings[0], embeddings[2]);
    assert.notDeepEqual(embeddings[0], embeddings[1]);
  }
});

await runAll();
