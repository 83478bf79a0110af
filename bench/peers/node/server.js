// The peer in JavaScript: nodemailer's smtp-server takes the mail, amqplib publishes it.
//
// One confirm channel for all sessions, one message a recipient, persistent and mandatory as
// fastsmtp's; 250 is answered when the broker has confirmed the last of them. No Nagle, no logging.
'use strict';

const { randomUUID } = require('node:crypto');
const { readFileSync } = require('node:fs');
const { parseArgs } = require('node:util');
const amqp = require('amqplib/callback_api');
const { SMTPServer } = require('smtp-server');

const HOSTNAME = 'mx.example.com';

const { values: options } = parseArgs({
  options: {
    port: { type: 'string' },
    url: { type: 'string' },
    queue: { type: 'string' },
    cert: { type: 'string' },
    key: { type: 'string' },
    discard: { type: 'boolean' },
  },
});

const IDLE = 3_600_000; // milliseconds: nobody is hung up on

function serve(onData) {
  const server = new SMTPServer({
    name: HOSTNAME,
    banner: 'ready',
    disabledCommands: options.cert ? ['AUTH'] : ['AUTH', 'STARTTLS'],
    disableReverseLookup: true,
    socketTimeout: IDLE,
    logger: false,
    key: options.key && readFileSync(options.key),
    cert: options.cert && readFileSync(options.cert),
    onData,
  });
  server.server.on('connection', (socket) => socket.setNoDelay(true));
  server.on('error', () => {}); // of a connection
  server.listen(Number(options.port), '127.0.0.1');
}

function discard(stream, session, answer) {
  stream.on('end', () => answer(null, 'OK'));
  stream.resume();
}

function shared(session) {
  const connection = {
    'local-ip': session.localAddress,
    'local-port': session.localPort,
    'remote-ip': session.remoteAddress,
    'remote-port': session.remotePort,
    secure: session.secure,
    helo: session.hostNameAppearsAs,
  };
  if (session.secure) {
    connection.tls = session.tlsOptions.version;
    connection.cipher = session.tlsOptions.standardName;
  }
  return {
    received: new Date().toISOString().slice(0, 19).replace('T', ' '),
    hostname: HOSTNAME,
    envelope: session.envelope.mailFrom.address,
    ips: [session.localAddress],
    connection,
  };
}

function publisher(channel) {
  function publish(chunks, session, answer) {
    const mime = chunks.length === 1 ? chunks[0] : Buffer.concat(chunks);
    // `mime` is last: all recipients share its bytes.
    const properties = JSON.stringify({ ...shared(session), mime: mime.toString() });
    const tail = Buffer.from(',' + properties.slice(1));
    let waiting = session.envelope.rcptTo.length;
    let failed = null;
    const confirmed = (error) => {
      failed ??= error;
      if (--waiting === 0) answer(failed, 'OK');
    };
    for (const { address } of session.envelope.rcptTo) {
      const id = randomUUID().replaceAll('-', '');
      const own = JSON.stringify({ 'message-id': id, recipient: address }).slice(0, -1);
      const body = Buffer.concat([Buffer.from(own), tail]);
      const basic = {
        contentType: 'application/json',
        persistent: true,
        mandatory: true,
        messageId: id,
        timestamp: Math.floor(Date.now() / 1000),
        appId: 'node',
      };
      channel.publish('', options.queue, body, basic, confirmed);
    }
  }

  return (stream, session, answer) => {
    const chunks = [];
    stream.on('data', (chunk) => chunks.push(chunk));
    stream.on('end', () => publish(chunks, session, answer));
  };
}

// Whatever goes wrong with the broker is the end of the run.
function must(next) {
  return (error, result) => {
    if (error) throw error;
    next(result);
  };
}

// amqplib writes a publish in pieces, one system call each: what is there leaves together.
function gather({ muxer, stream }) {
  const readIncoming = muxer._readIncoming;
  muxer._readIncoming = function () {
    stream.cork();
    readIncoming.call(this);
    stream.uncork();
  };
}

if (options.discard) {
  serve(discard);
} else {
  const socket = { noDelay: true, writableHighWaterMark: 1 << 20 };
  amqp.connect(options.url, socket, must((connection) => {
    gather(connection.connection);
    connection.createConfirmChannel(must((channel) => {
      channel.on('return', (message) => {
        throw new Error(`unroutable: ${message.properties.messageId}`);
      });
      channel.assertQueue(options.queue, { durable: true }, must(() => serve(publisher(channel))));
    }));
  }));
}
