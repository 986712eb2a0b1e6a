// From an error to an HTTP answer. What the caller did wrong is said plainly; what we did wrong gets an incident id.
import { type ErrorBody, hints, ServiceError, statusOf, TargetError } from '@stellwerk/contract/errors.ts';
import type { FastifyError, FastifyReply, FastifyRequest } from 'fastify';
import type { z } from 'zod';
import { diskFull, isDiskFull } from '../db/disk-full.ts';

export type Incident = (error: unknown) => string;

export function answerError(incident: Incident) {
  return (error: FastifyError | Error, request: FastifyRequest, reply: FastifyReply): void => {
    const { status, body } = bodyOf(error, incident);
    const wait = body.details?.retryAfterSeconds;
    if (typeof wait === 'number') reply.header('retry-after', String(wait));
    if (status === 401) reply.header('www-authenticate', 'Bearer realm="stellwerk"');
    // Not every answer left the request's body read: a connection in between would take its rest for a new request.
    if (!request.raw.complete) reply.header('connection', 'close');
    void reply.code(status).type('application/json; charset=utf-8').serializer(String).send(JSON.stringify(body));
  };
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

const issuesNamed = 5;

/** A sentence that names the fields. */
export function invalidInput(error: z.ZodError): ServiceError {
  const issues = error.issues.slice(0, issuesNamed).map((issue) => {
    const field = issue.path.map(String).join('.');
    return field === '' ? issue.message : `${field}: ${issue.message}`;
  });
  const more = error.issues.length - issues.length;
  return new ServiceError(
    'invalid-argument',
    'request.invalid',
    `The request is not valid: ${issues.join('; ')}${more > 0 ? `; and ${more} more` : ''}.`,
    {
      issues: error.issues.slice(0, 50).map(({ path, message }) => ({ path: path.map(String), message })),
    },
  );
}
