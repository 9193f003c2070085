// Calls a server with @grpc/grpc-js and prints what it saw as JSON: node grpc_js_client.js HOST:PORT
const grpc = require("@grpc/grpc-js");

const same = (bytes) => bytes;
const client = new grpc.Client(process.argv[2], grpc.credentials.createInsecure(), {
  "grpc.max_receive_message_length": -1,
  "grpc.keepalive_time_ms": 200,
  "grpc.default_compression_algorithm": Number(process.argv[3] || 0),
});

function unary(path, message, options = {}, metadata = {}) {
  const headers = new grpc.Metadata();
  for (const [name, value] of Object.entries(metadata)) headers.set(name, value);
  return new Promise((resolve) => {
    const seen = {};
    const call = client.makeUnaryRequest(path, same, same, message, headers, options, (error, answer) => {
      if (error) {
        resolve({ code: error.code, details: error.details });
      } else {
        seen.answer = answer;
        setImmediate(() => resolve(seen));
      }
    });
    call.on("status", (status) => Object.assign(seen, { code: status.code, trailers: status.metadata.getMap() }));
    if (options.cancelAfterMs) setTimeout(() => call.cancel(), options.cancelAfterMs);
  });
}

function stream(path, message) {
  return new Promise((resolve) => {
    const answers = [];
    const call = client.makeServerStreamRequest(path, same, same, message, new grpc.Metadata(), {});
    call.on("data", (data) => answers.push(data.toString()));
    call.on("error", (error) => resolve({ code: error.code, answers }));
    call.on("end", () => resolve({ code: 0, answers }));
  });
}

function chat(path, words) {
  return new Promise((resolve) => {
    const answers = [];
    const call = client.makeBidiStreamRequest(path, same, same, new grpc.Metadata(), {});
    call.on("data", (data) => answers.push(data.toString()));
    call.on("end", () => resolve(answers));
    for (const word of words) call.write(Buffer.from(word));
    call.end();
  });
}

async function main() {
  const echo = "/test.Test/Echo";
  const large = Buffer.alloc(9_000_000, 7);
  const hello = await unary(echo, Buffer.from("hello"), {}, { say: "hi" });
  const seen = {
    hello: hello.answer.toString(),
    trailer: hello.trailers.echo,
    empty: (await unary(echo, Buffer.alloc(0))).answer.length,
    large: large.equals((await unary(echo, large)).answer),
    error: await unary(echo, Buffer.from("error")),
    unknown: (await unary("/test.Test/Nothing", Buffer.alloc(0))).code,
    deadline: (await unary("/test.Test/Slow", Buffer.alloc(0), { deadline: Date.now() + 200 })).code,
    cancelled: (await unary("/test.Test/Slow", Buffer.alloc(0), { cancelAfterMs: 100 })).code,
    stream: await stream("/test.Test/Count", Buffer.from("3")),
    chat: await chat("/test.Test/Chat", ["one", "two"]),
  };
  const many = await Promise.all(
    Array.from({ length: 500 }, (_, number) => unary(echo, Buffer.from(String(number)))),
  );
  seen.many = many.every((each, number) => each.answer.toString() === String(number));
  await new Promise((resolve) => setTimeout(resolve, 1000)); // several keepalive pings
  seen.after_pings = (await unary(echo, Buffer.from("still"))).answer.toString();
  client.close();
  console.log(JSON.stringify(seen));
}

main();
