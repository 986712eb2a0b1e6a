// From an error to an HTTP answer. What the caller did wrong is said plainly; what we did wrong gets an incident id.
import { STATUS_CODES } from 'node:http';
import type { Socket } from 'node:net';
import {
  type ErrorBody,
  type ErrorCode,
  hints,
  ServiceError,
  statusOf,
  TargetError,
} from '@stellwerk/contract/errors.ts';
import type { FastifyError, FastifyReply, FastifyRequest } from 'fastify';
import type { z } from 'zod';
import { diskFull, isDiskFull } from '../db/disk-full.ts';
import { sayLastWords } from '../gateway/last-words.ts';

export type Incident = (error: unknown) => string;

export function answerError(incident: Incident) {
  return (error: FastifyError | Error, request: FastifyRequest, reply: FastifyReply): void => {
    // A sender who leaves, or is cut off, in the middle of a body is no fault of ours, and hears no answer.
    const { status, body } = bodyOf(request.raw.errored === error ? brokenOff() : error, incident);
    const wait = body.details?.retryAfterSeconds;
    if (typeof wait === 'number') reply.header('retry-after', String(wait));
    if (status === 401 && !reply.hasHeader('www-authenticate'))
      reply.header('www-authenticate', 'Bearer realm="stellwerk"');
    // Not every answer left the request's body read: a connection in between would take its rest for a new request.
    if (!request.raw.complete) reply.header('connection', 'close');
    void reply
      .code(status)
      .type('application/json; charset=utf-8')
      .serializer(String)
      .send(JSON.stringify(isOfRegistry(request.url) ? registryBody(body) : body));
  };
}

function isOfRegistry(url: string): boolean {
  return /^\/v2(?:[/?]|$)/.test(url);
}

/** As OCI's distribution specification has errors. */
function registryBody({ code, reason, message, hint, incident }: ErrorBody): object {
  return { errors: [{ code: registryCode(code, reason), message, detail: { reason, hint, incident } }] };
}

function registryCode(code: ErrorCode, reason: string): string {
  if (code === 'unauthenticated') return reason === 'access.denied' ? 'DENIED' : 'UNAUTHORIZED';
  if (code === 'permission-denied') return 'DENIED';
  if (reason === 'image.not-found') return 'MANIFEST_UNKNOWN';
  if (reason === 'blob.not-found') return 'BLOB_UNKNOWN';
  if (code === 'resource-exhausted') return 'TOOMANYREQUESTS';
  if (code === 'invalid-argument') return 'NAME_INVALID';
  return code === 'internal' ? 'UNKNOWN' : 'UNSUPPORTED';
}

export function bodyOf(error: unknown, incident: Incident): { status: number; body: ErrorBody } {
  const known = error instanceof ServiceError ? error : error instanceof Error ? translated(error) : undefined;
  if (known) {
    const { code, reason, message, hint, details } = known;
    return { status: statusOf[code], body: { code, reason, message, hint, ...(details && { details }) } };
  }
  const id = incident(error);
  const message = `An internal fault happened; it is recorded as incident ${id}.`;
  return {
    status: 500,
    body: { code: 'internal', reason: 'server.internal', message, hint: hints['server.internal'], incident: id },
  };
}

function brokenOff(): ServiceError {
  return new ServiceError('invalid-argument', 'request.invalid', 'The request broke off.');
}

/** What Fastify and the world outside throw, in our words. */
function translated(error: FastifyError | Error): ServiceError | undefined {
  if (isDiskFull(error)) return diskFull();
  if (error instanceof TargetError) return new ServiceError('unavailable', 'target.failed', error.message);
  const status = 'statusCode' in error ? error.statusCode : undefined;
  if (status === 413)
    return new ServiceError('too-large', 'request.too-large', 'The body of the request is too large.');
  if (status === 415)
    return new ServiceError(
      'unsupported-media-type',
      'request.media-type',
      'The media type of the request is not what this verb takes.',
    );
  if (status !== undefined && status >= 400 && status < 500)
    return new ServiceError(
      'invalid-argument',
      'request.invalid',
      `The request is not valid: ${error.message.replace(/\.$/, '')}.`,
    );
  return undefined;
}

/** What is not HTTP, came too slowly, or has too large a head: there is no request yet, only a connection. */
export function answerUnreadable(error: NodeJS.ErrnoException, socket: Socket): void {
  if (!socket.writable || error.code === 'ECONNRESET') return void socket.destroy();
  const refusal = unreadable(error.code);
  const { code, reason, message, hint, status } = refusal;
  const body = JSON.stringify({ code, reason, message, hint });
  const head = [
    `HTTP/1.1 ${status} ${STATUS_CODES[status]}`,
    'Content-Type: application/json; charset=utf-8',
    `Content-Length: ${Buffer.byteLength(body)}`,
    'X-Content-Type-Options: nosniff',
    'Connection: close',
  ];
  sayLastWords(socket, `${head.join('\r\n')}\r\n\r\n${body}`);
}

function unreadable(code: string | undefined): ServiceError {
  if (code === 'HPE_HEADER_OVERFLOW')
    return new ServiceError('too-large', 'request.too-large', 'The address and headers of the request are too large.');
  if (code === 'ERR_HTTP_REQUEST_TIMEOUT')
    return new ServiceError('deadline-exceeded', 'request.invalid', 'The request did not come to an end in time.');
  return new ServiceError('invalid-argument', 'request.invalid', 'This is no HTTP request.');
}

const issuesNamed = 5;
const issueLength = 300;

/** A sentence that names the fields. */
export function invalidInput(error: z.ZodError): ServiceError {
  const told = error.issues.slice(0, 50).map(({ path, message }) => ({
    path: path.map((part) => String(part).slice(0, issueLength)),
    message: message.slice(0, issueLength), // it may name all that a request should not have had
  }));
  const issues = told.slice(0, issuesNamed).map(({ path, message }) => {
    const field = path.join('.');
    return field === '' ? message : `${field}: ${message}`;
  });
  const more = error.issues.length - issues.length;
  return new ServiceError(
    'invalid-argument',
    'request.invalid',
    `The request is not valid: ${issues.join('; ')}${more > 0 ? `; and ${more} more` : ''}.`,
    { issues: told },
  );
}
