// Unmodified clients of Node against one running service. Reads {base_url, keys} as JSON from its standard input, and
// prints one JSON object: what each client made, was refused and cancelled. tests/contracts/test_node_clients.py reads it.

import { readFileSync } from "node:fs";
import { createServer } from "node:http";

import { createAlibaba } from "@ai-sdk/alibaba";
import { createGateway } from "@ai-sdk/gateway";
import { createReplicate } from "@ai-sdk/replicate";
import { experimental_generateVideo as generateVideo } from "ai";
import OpenAI from "openai";
import Replicate, { validateWebhook } from "replicate";

globalThis.AI_SDK_LOG_WARNINGS = false;
const { base_url: base, keys } = JSON.parse(readFileSync(0, "utf8"));
const key = keys.enterprise;
const picture = readFileSync(new URL("frame.png", import.meta.url));
const LONG = "a".repeat(5001);
const NO_PICTURE = "https://127.0.0.1:9/frame.png";

// The AI SDK downloads from no private host; a caller who has his own service says so by a download of his own.
const download = async ({ url }) => ({ data: new Uint8Array(await (await fetch(url)).arrayBuffer()), mediaType: "video/mp4" });
const film = (bytes) => Buffer.from(bytes).subarray(4, 8).toString();

async function refusal(call) {
  try {
    await call();
  } catch (error) {
    const cause = error.lastError ?? error;
    const name = cause.name === "Error" ? cause.constructor.name : cause.name;
    return { name, message: cause.message, status: cause.statusCode ?? cause.status ?? cause.response?.status };
  }
  return { name: "", message: "it was not refused", status: 200 };
}

async function refusals(order) {
  const cases = {
    model: { model: "no-such-model" },
    picture: { picture: NO_PICTURE },
    prompt: { prompt: LONG },
    money: { poor: true },
  };
  const seen = {};
  for (const [name, change] of Object.entries(cases)) seen[name] = await refusal(() => order(change));
  return seen;
}

// A receiver of webhooks, which keeps what is posted to each path.
const posted = {};
const waiting = {};
const receiver = createServer((request, response) => {
  const parts = [];
  request.on("data", (part) => parts.push(part));
  request.on("end", () => {
    posted[request.url] = { headers: request.headers, body: Buffer.concat(parts).toString() };
    response.end();
    waiting[request.url]?.();
  });
});
await new Promise((resolve) => receiver.listen(0, "127.0.0.1", resolve));
function hook(path) {
  const received = new Promise((resolve) => (waiting[path] = () => resolve(posted[path])));
  return { url: `http://127.0.0.1:${receiver.address().port}${path}`, received };
}

const small = { resolution: "832x480", duration: 1 };

async function gateway() {
  const at = (apiKey, options = {}) => createGateway({ baseURL: `${base}/v4/ai`, apiKey, ...options });
  const client = at(key);
  const make = (model, options) => generateVideo({ model: client.videoModel(model), ...small, ...options });
  const called = await make("cinemeter/synthetic", { prompt: "one call", fps: 1 });
  const polled = await make("synthetic", { prompt: "polled", poll: { intervalMs: 300 } });
  const told = await make("synthetic", { prompt: "told", webhook: async () => hook("/gateway") });
  const framed = await make("synthetic", {
    prompt: "from pictures",
    frameImages: [{ image: picture, frameType: "first_frame" }],
    providerOptions: { cinemeter: { negative_prompt: "blur" }, other: { knob: 1 } },
  });
  // The answer is lost after it has arrived whole; the client calls again by itself.
  const ids = [];
  const losing = at(key, {
    fetch: async (...request) => {
      const answer = await fetch(...request);
      const text = await answer.text();
      ids.push(JSON.parse(text.split("data: ")[1]).providerMetadata.cinemeter.id);
      if (ids.length === 1) throw new TypeError("fetch failed", { cause: new Error("the answer was lost") });
      return new Response(text, { status: answer.status, headers: answer.headers });
    },
  });
  await generateVideo({ model: losing.videoModel("synthetic"), prompt: "lost", ...small });
  const order = ({ model = "synthetic", picture: image, prompt = "x", poor }) =>
    generateVideo({
      model: at(poor ? keys.poor : keys.careful).videoModel(model),
      prompt: image ? { image, text: prompt } : prompt,
      ...small,
      maxRetries: 0,
    });
  const start = await client.videoModel("synthetic").doStart({ prompt: "stop", n: 1, resolution: "832x480", duration: 60 });
  await fetch(`${base}/v1/videos/${start.operation.id}/cancel`, { method: "POST", headers: { authorization: `Bearer ${key}` } });
  return {
    films: [called, polled, told, framed].map((each) => film(each.video.uint8Array)),
    metadata: called.providerMetadata.cinemeter,
    framed: framed.providerMetadata.cinemeter.id,
    warnings: called.warnings,
    lost: ids,
    models: (await client.getAvailableModels()).models.map((each) => each.id),
    cancelled: await client.videoModel("synthetic").doStatus({ operation: start.operation }),
    refused: await refusals(order),
    stranger: await refusal(() => at("cm_live_wrong").getAvailableModels()),
  };
}

async function replicate() {
  const at = (auth) => new Replicate({ auth, baseUrl: `${base}/replicate/v1` });
  const client = at(key);
  const input = { prompt: "a prediction", duration: 1, resolution: "480p" };
  const output = await client.run("cinemeter/synthetic", { input });
  const hooked = hook("/replicate");
  const created = await client.predictions.create({
    model: "cinemeter/synthetic",
    input: { ...input, image: picture, guidance_scale: 3 },
    webhook: hooked.url,
    webhook_events_filter: ["completed"],
  });
  const ended = await client.wait(created, { interval: 200 });
  const { headers, body } = await hooked.received;
  const { key: secret } = await client.webhooks.default.secret.get();
  const by_version = await client.predictions.create({ version: "synthetic", input: { ...input, duration: 60 } });
  const order = ({ model = "synthetic", picture: image, prompt = "x", poor }) =>
    at(poor ? keys.poor : keys.careful).predictions.create({ model: `cinemeter/${model}`, input: { ...input, image, prompt } });
  return {
    film: film(await (await fetch(output)).arrayBuffer()),
    created,
    ended,
    signed: await validateWebhook({ ...pick(headers), body, secret }),
    hooked: JSON.parse(body),
    model: await client.models.get("cinemeter", "synthetic"),
    listed: (await client.predictions.list()).results.map((each) => each.id),
    cancelled: await client.predictions.cancel(by_version.id),
    refused: await refusals(order),
    stranger: await refusal(() => at("cm_live_wrong").predictions.list()),
  };
}

const pick = (headers) => ({
  id: headers["webhook-id"],
  timestamp: headers["webhook-timestamp"],
  signature: headers["webhook-signature"],
});

// The AI SDK's providers for Replicate and for Alibaba's DashScope.
async function provider(at, { sound = false } = {}) {
  const make = (options) => generateVideo({ model: at(key).video("synthetic"), ...small, download, poll: { intervalMs: 300 }, ...options });
  // Alibaba's provider sends a picture only with a model whose id says so, but a sound with any.
  const order = ({ model = "synthetic", picture: image, prompt = "x", poor }) =>
    make({
      model: at(poor ? keys.poor : keys.careful).video(model),
      prompt: image && !sound ? { image, text: prompt } : prompt,
      ...(image && sound ? { providerOptions: { alibaba: { audioUrl: image } } } : {}),
      maxRetries: 0,
    });
  const made = await make({ prompt: "by a provider" });
  return {
    film: film(made.video.uint8Array),
    metadata: made.providerMetadata,
    refused: await refusals(order),
    stranger: await refusal(() => make({ model: at("cm_live_wrong").video("synthetic"), prompt: "x", maxRetries: 0 })),
  };
}

async function openai() {
  const at = (apiKey) => new OpenAI({ baseURL: `${base}/v1`, apiKey, maxRetries: 0 });
  const client = at(key);
  const order = { model: "synthetic", prompt: "by openai", seconds: "1", size: "832x480" };
  let video = await client.videos.create(order);
  while (!["completed", "failed"].includes(video.status)) {
    await new Promise((resolve) => setTimeout(resolve, 200));
    video = await client.videos.retrieve(video.id);
  }
  const content = await client.videos.downloadContent(video.id);
  const refused = await refusals(({ model = "synthetic", picture: image, prompt = "x", poor }) =>
    at(poor ? keys.poor : keys.careful).videos.create({ ...order, model, prompt, ...(image ? { input_reference: { image_url: image } } : {}) }),
  );
  return { film: film(await content.arrayBuffer()), video, refused, stranger: await refusal(() => at("cm_live_wrong").videos.list()) };
}

const aiReplicate = (apiToken) => {
  const client = createReplicate({ baseURL: `${base}/replicate/v1`, apiToken });
  return { video: (id) => client.video(`cinemeter/${id}`) };
};
const aiAlibaba = (apiKey) => createAlibaba({ videoBaseURL: base, apiKey });

const scenarios = { gateway, replicate, openai, aiReplicate: () => provider(aiReplicate), aiAlibaba: () => provider(aiAlibaba, { sound: true }) };
const seen = await Promise.all(
  Object.entries(scenarios).map(async ([name, scenario]) => {
    try {
      return [name, await scenario()];
    } catch (error) {
      return [name, { failure: error.stack, cause: String(error.lastError ?? error.cause ?? "") }];
    }
  }),
);
console.log(JSON.stringify(Object.fromEntries(seen)));
receiver.close();
receiver.closeAllConnections();
