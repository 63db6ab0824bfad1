// grpc-js's client of the matrix: client.js TARGET [--tls CA] CASE...  (grpc_rows.py says what each case is)
'use strict';

const crypto = require('crypto');
const fs = require('fs');
const grpc = require('@grpc/grpc-js');

const OPTIONS = {
  'grpc.enable_http_proxy': 0,
  'grpc.max_receive_message_length': -1,
  'grpc.max_send_message_length': -1,
  'grpc.keepalive_time_ms': 3000,
  'grpc.keepalive_timeout_ms': 5000,
  'grpc.keepalive_permit_without_calls': 1,
};
const GZIP = 2;
const asItIs = (bytes) => bytes;

const path = (method) => (method.startsWith('/') ? method : `/weir.Matrix/${method}`);
const block = (number, size) => Buffer.alloc(size, number % 256);
const pause = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));
const after = (milliseconds) => ({ deadline: Date.now() + milliseconds });

function pairs(entries = {}) {
  const metadata = new grpc.Metadata();
  for (const [key, value] of Object.entries(entries)) metadata.set(key, value);
  return metadata;
}

// A unary call: the answer, and its headers and trailers.
function unary(client, method, message, { metadata = pairs(), timeout = 30000 } = {}) {
  return new Promise((resolve, reject) => {
    const result = {};
    const call = client.makeUnaryRequest(path(method), asItIs, asItIs, message, metadata, after(timeout), (error, answer) => {
      result.answer = answer;
      if (error) reject(error);
    });
    call.on('metadata', (headers) => (result.headers = headers));
    call.on('status', (status) => {
      result.trailers = status.metadata;
      // The answer's callback comes in the same turn, before or after this.
      setImmediate(() => resolve(result));
    });
  });
}

// A bidirectional call, a message at a time.
class Both {
  constructor(client, method = 'Both', metadata = pairs()) {
    this.call = client.makeBidiStreamRequest(path(method), asItIs, asItIs, metadata, after(60000));
    this.messages = this.call[Symbol.asyncIterator]();
    this.call.on('error', () => {}); // the iterator throws it
  }
  async exchange(message) {
    this.call.write(message);
    return (await this.messages.next()).value;
  }
  async end() {
    this.call.end();
    const { done } = await this.messages.next();
    if (!done) throw new Error('more than was asked');
  }
}

async function total(messages) {
  let [count, size] = [0, 0];
  const hash = crypto.createHash('sha256');
  for await (const message of messages) {
    count++;
    size += message.length;
    hash.update(message);
  }
  return `${count} messages, ${size} bytes, ${hash.digest('hex').slice(0, 16)}`;
}

async function code(call) {
  try {
    await call;
    return { code: 0, details: '' };
  } catch (error) {
    return error;
  }
}

const length = (metadata, key) => metadata.get(key).join('').length;

const CASES = {
  async unary(client) {
    let echoed = 0;
    const servers = new Set();
    for (let number = 0; number < 30; number++) {
      const { answer, headers } = await unary(client, 'Echo', block(number, 100));
      servers.add(headers.get('x-server').join(''));
      echoed += answer.equals(block(number, 100));
    }
    console.log(`# ${servers.size} servers`);
    return `${echoed} echoed`;
  },
  down: (client) =>
    total(client.makeServerStreamRequest(path('Down'), asItIs, asItIs, Buffer.from('1000 1024'), pairs(), after(30000))),
  up: (client) =>
    new Promise((resolve, reject) => {
      const call = client.makeClientStreamRequest(path('Up'), asItIs, asItIs, pairs(), after(30000), (error, answer) =>
        error ? reject(error) : resolve(answer.toString()));
      for (let number = 0; number < 1000; number++) call.write(block(number, 1024));
      call.end();
    }),
  async both(client) {
    const stream = new Both(client);
    let echoed = 0;
    for (let number = 0; number < 200; number++) {
      echoed += (await stream.exchange(block(number, 50))).equals(block(number, 50));
    }
    await stream.end();
    return `${echoed} echoed`;
  },
  async large(client) {
    const message = block(7, 50 << 20);
    const { answer } = await unary(client, 'Echo', message);
    return `${answer.length} ${answer.equals(message) ? 'echoed' : 'changed'}`;
  },
  async metadata(client) {
    const { headers, trailers } = await unary(client, 'Echo', Buffer.from('x'), { metadata: pairs({ 'x-echo': 'm'.repeat(8192) }) });
    return `${length(headers, 'x-echo')} in headers, ${length(trailers, 'x-echo-trailer')} in trailers`;
  },
  async cancel(client) {
    const id = crypto.randomUUID();
    const stream = new Both(client, 'Both', pairs({ 'x-id': id }));
    if (!(await stream.exchange(block(1, 10))).equals(block(1, 10))) return 'silent';
    stream.call.cancel();
    for (let tries = 0; tries < 100; tries++) {
      const { answer } = await unary(client, 'Cancelled', Buffer.from(id));
      if (answer.toString() === '1') return 'echoed, the server heard';
      await pause(30);
    }
    return 'the server did not hear';
  },
  async deadline(client) {
    const codes = [];
    while (codes.length < 20) codes.push((await code(unary(client, 'Sleep', Buffer.alloc(0), { timeout: 50 }))).code);
    return codes.join(' ');
  },
  async status(client) {
    const error = await code(unary(client, 'Fail', Buffer.alloc(0)));
    return `${error.code} ${error.details}`;
  },
  async unimplemented(client) {
    return `${(await code(unary(client, 'Nothing', Buffer.alloc(0)))).code}`;
  },
  async compressed(_, make) {
    const client = make({ 'grpc.default_compression_algorithm': GZIP });
    const { answer, headers } = await unary(client, 'Echo', block(1, 100000));
    client.close();
    return `${answer.length} echoed, ${headers.get('x-encoding').join('')}`;
  },
  async health(client) {
    return (await unary(client, '/grpc.health.v1.Health/Check', Buffer.alloc(0))).answer.toString('hex');
  },
  async reflection(client) {
    const stream = new Both(client, '/grpc.reflection.v1.ServerReflection/ServerReflectionInfo');
    const answer = await stream.exchange(Buffer.from(':\0'));
    await stream.end();
    return crypto.createHash('sha256').update(answer).digest('hex');
  },
  async keepalive(client) {
    const stream = new Both(client);
    for (const idle of [12000, 0]) {
      if (!(await stream.exchange(block(1, 10))).equals(block(1, 10))) return 'dead';
      await pause(idle);
    }
    await stream.end();
    return 'alive';
  },
  async pinged(client) {
    const connections = new Map();
    for (const idle of [8000, 0]) {
      for (let number = 0; number < 30; number++) {
        const { headers } = await unary(client, 'Echo', block(1, 10));
        const [server, connection] = ['x-server', 'x-connection'].map((key) => headers.get(key).join(''));
        if ((connections.get(server) ?? connection) !== connection) return 'another connection';
        connections.set(server, connection);
      }
      await pause(idle);
    }
    return 'alive';
  },
};

async function main([target, ...names]) {
  let credentials = grpc.credentials.createInsecure();
  if (names[0] === '--tls') {
    credentials = grpc.credentials.createSsl(fs.readFileSync(names[1]));
    names = names.slice(2);
  }
  const make = (more = {}) => new grpc.Client(target, credentials, { ...OPTIONS, ...more });
  const client = make();
  for (const name of names) {
    try {
      console.log(`${name}: ${await CASES[name](client, make)}`);
    } catch (error) {
      console.log(`${name}: failed with ${error.code} ${error.details ?? error}`);
    }
  }
  client.close();
}

main(process.argv.slice(2));
