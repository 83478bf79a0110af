// Haraka's queue: amqplib publishes what it took, and 250 waits for the confirm.
//
// One confirm channel for all sessions, one message a recipient, persistent and mandatory as
// fastsmtp's. No Nagle; what several sessions publish leaves as one write.
'use strict';

const { randomUUID } = require('node:crypto');
const amqp = require('amqplib/callback_api');

const { PEER_URL: url, PEER_QUEUE: queue } = process.env;
let channel;

exports.register = function () {
  this.register_hook('init_master', 'open');
};

exports.open = (next) => {
  const socket = { noDelay: true, writableHighWaterMark: 1 << 20 };
  amqp.connect(url, socket, must((connection) => {
    gather(connection.connection);
    connection.createConfirmChannel(must((opened) => {
      channel = opened;
      channel.on('return', (message) => {
        throw new Error(`unroutable: ${message.properties.messageId}`);
      });
      channel.assertQueue(queue, { durable: true }, must(() => next()));
    }));
  }));
};

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

// No question to a name server, no list of hosts.
exports.hook_lookup_rdns = (next) => next(OK, 'localhost');
exports.hook_rcpt = (next) => next(OK);

exports.hook_connect = (next, connection) => {
  connection.client.setNoDelay(true);
  next();
};

exports.hook_queue = (next, connection) => {
  const { transaction } = connection;
  transaction.message_stream.destroy = () => {}; // no file to remove: connection.ini spools nothing
  transaction.message_stream.get_data((content) => publish(connection, transaction, content, next));
};

function publish({ hello, local, remote, tls }, { mail_from, rcpt_to }, content, next) {
  // `mime` is last: all recipients share its bytes.
  const properties = JSON.stringify({
    received: new Date().toISOString().slice(0, 19).replace('T', ' '),
    hostname: local.host,
    envelope: mail_from.address,
    ips: [local.ip],
    connection: {
      'local-ip': local.ip,
      'local-port': local.port,
      'remote-ip': remote.ip,
      'remote-port': remote.port,
      secure: tls.enabled,
      helo: hello.host,
    },
    mime: content.toString(),
  });
  const tail = Buffer.from(',' + properties.slice(1));
  let waiting = rcpt_to.length;
  let failed = false;
  const confirmed = (error) => {
    failed ||= Boolean(error);
    if (--waiting === 0) next(failed ? DENYSOFT : OK);
  };
  for (const { address } of rcpt_to) {
    const id = randomUUID().replaceAll('-', '');
    const own = JSON.stringify({ 'message-id': id, recipient: address }).slice(0, -1);
    const basic = {
      contentType: 'application/json',
      persistent: true,
      mandatory: true,
      messageId: id,
      timestamp: Math.floor(Date.now() / 1000),
      appId: 'haraka',
    };
    channel.publish('', queue, Buffer.concat([Buffer.from(own), tail]), basic, confirmed);
  }
}
