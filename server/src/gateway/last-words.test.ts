import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import { type AddressInfo, connect } from 'node:net';
import { setTimeout as pause } from 'node:timers/promises';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { sayLastWords } from './last-words.ts';

let server: Server;
beforeEach(async () => {
  server = createServer().on('clientError', (_, socket) => sayLastWords(socket, 'HTTP/1.1 400 Bad Request\r\n\r\n'));
  await once(server.listen(0, '127.0.0.1'), 'listening');
});
afterEach(() => {
  server.closeAllConnections();
  server.close();
});

const called = async () => {
  const socket = connect((server.address() as AddressInfo).port, '127.0.0.1').on('error', () => {});
  await once(socket, 'connect');
  return socket;
};

test('whoever goes on sending, and listens only later, hears them all the same', async () => {
  const socket = await called();
  socket.pause();
  socket.write('this is no HTTP\r\n\r\n');
  for (let times = 0; times < 20; times++) {
    socket.write(Buffer.alloc(64 * 1024));
    await pause(10);
  }
  let heard = '';
  socket.setEncoding('utf8').on('data', (text: string) => {
    heard += text;
  });
  socket.resume();
  await once(socket, 'close');
  expect(heard).toBe('HTTP/1.1 400 Bad Request\r\n\r\n');
});

test('whoever never leaves is left', async () => {
  const socket = await called();
  socket.write('this is no HTTP\r\n\r\n');
  const [{ length }] = await once(socket, 'data');
  expect(length).toBeGreaterThan(0);
  const sending = setInterval(() => socket.write('x'), 20);
  await once(socket, 'close');
  clearInterval(sending);
  await expect.poll(() => new Promise((told) => void server.getConnections((_, count) => told(count)))).toBe(0);
});
