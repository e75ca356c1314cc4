// Open an ONNX file in onnxruntime-web (WebAssembly, as in a browser) and print every output.
//
//     node run.mjs FOLDER_OF_NODE_MODULES MODEL INPUT BATCH,3,SIZE,SIZE
//
// INPUT holds float32 numbers, little-endian. Printed: {name: {dims, data}}, data being base64 of float32.

import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { resolve } from "node:path";

const [modules, model, input, dims] = process.argv.slice(2);
const ort = createRequire(resolve(modules, "package.json"))("onnxruntime-web");
ort.env.wasm.numThreads = 1;

const bytes = await readFile(input);
const numbers = new Float32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4);
const session = await ort.InferenceSession.create(await readFile(model), { executionProviders: ["wasm"] });
const results = await session.run({ input: new ort.Tensor("float32", numbers, dims.split(",").map(Number)) });

const printed = {};
for (const name of session.outputNames) {
  const { dims, data } = results[name];
  printed[name] = { dims, data: Buffer.from(data.buffer, data.byteOffset, data.byteLength).toString("base64") };
}
console.log(JSON.stringify(printed));
