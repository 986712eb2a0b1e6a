// The gateway's own answers: JSON like every error of Stellwerk, protected like every answer of a service.
import type { IncomingMessage, ServerResponse } from 'node:http';
import { ServiceError } from '@stellwerk/contract/errors.ts';
import { protection } from './headers.ts';

/** How long and how much is still read of a body that nobody wants, so that the caller gets to read why. */
const lingerMs = 1_000;

export function refuse(
  request: IncomingMessage,
  response: ServerResponse,
  error: ServiceError,
  requestId: string,
): void {
  if (response.headersSent) return void response.destroy();
  const { code, reason, message, hint } = error;
  const body = JSON.stringify({ code, reason, message, hint });
  const wholeBodyRead = request.complete;
  response.writeHead(error.status, {
    ...protection,
    'content-type': 'application/json',
    'content-length': Buffer.byteLength(body),
    'x-request-id': requestId,
    ...(error.status === 401 && { 'www-authenticate': 'Bearer' }),
    ...(error.status === 503 && { 'retry-after': '1' }),
    ...(!wholeBodyRead && { connection: 'close' }),
  });
  if (wholeBodyRead) return void response.end(body);
  response.write(body);
  const end = () => void response.end();
  const timer = setTimeout(end, lingerMs);
  response.once('close', () => clearTimeout(timer));
  request.once('end', end).once('close', end).resume();
}

export function notFound(message: string): ServiceError {
  return new ServiceError('not-found', 'web-service.not-found', message);
}

export function invalid(message: string): ServiceError {
  return new ServiceError('invalid-argument', 'request.invalid', message);
}
