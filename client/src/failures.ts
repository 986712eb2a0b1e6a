// What a call can end with: a refusal of the server, or a server that cannot be reached.
import { type ErrorBody, type ErrorCode, type hints, ServiceError, statusOf } from '@stellwerk/contract/errors.ts';

/** No answer came: the server is down, the address is wrong, or the connection broke. */
export class Unreachable extends Error {
  readonly hint = 'Check the address, and that the server runs (`stellwerk up`) and can be reached from here.';
  constructor(url: string, cause: unknown) {
    super(`The server at ${url} cannot be reached: ${reasonOf(cause)}.`, { cause });
    this.name = 'Unreachable';
  }
}

/** The server's refusal as the error that the server threw; a hint of a newer server is kept. */
export async function errorFrom(response: Response): Promise<ServiceError> {
  const body = await bodyOf(response);
  const error = new ServiceError(body.code, body.reason as keyof typeof hints, body.message, {
    ...body.details,
    ...(body.incident === undefined ? {} : { incident: body.incident }),
  });
  if (error.hint !== body.hint) Object.defineProperty(error, 'hint', { value: body.hint });
  return error;
}

async function bodyOf(response: Response): Promise<ErrorBody> {
  const text = await response.text().catch(() => '');
  try {
    const body = JSON.parse(text) as ErrorBody;
    if (body.code in statusOf && typeof body.message === 'string') return body;
  } catch {
    // Not ours: a proxy between, or another server.
  }
  return {
    code: codeOf(response.status),
    reason: 'server.internal',
    message: `${response.url || 'The server'} answered ${response.status} ${response.statusText}, and not as Stellwerk does.`,
    hint: 'Check that the address is that of a Stellwerk server, and what stands between.',
  };
}

function codeOf(status: number): ErrorCode {
  const found = Object.entries(statusOf).find(([, known]) => known === status);
  return (found?.[0] as ErrorCode | undefined) ?? (status >= 500 ? 'unavailable' : 'invalid-argument');
}

/** The system's code for why a connection failed, such as ECONNREFUSED; undefined where none is told. */
export function connectionCode(error: unknown): string | undefined {
  for (let at = error; at instanceof Error; at = at.cause) {
    const code = (at as NodeJS.ErrnoException).code;
    if (typeof code === 'string') return code;
    if (at instanceof AggregateError && at.errors.length > 0) return connectionCode(at.errors[0]);
  }
  return undefined;
}

const words: Record<string, string> = {
  ECONNREFUSED: 'nothing listens there (connection refused)',
  ECONNRESET: 'the connection was cut',
  UND_ERR_SOCKET: 'the connection was cut',
  ENOTFOUND: 'the host name is not known',
  EAI_AGAIN: 'the host name cannot be resolved now',
  ETIMEDOUT: 'it did not answer in time',
  UND_ERR_CONNECT_TIMEOUT: 'it did not answer in time',
  EHOSTUNREACH: 'there is no way to that host',
  DEPTH_ZERO_SELF_SIGNED_CERT: 'its certificate is self-signed; give its CA bundle',
  SELF_SIGNED_CERT_IN_CHAIN: 'its certificate is from an unknown authority; give its CA bundle',
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: 'its certificate is from an unknown authority; give its CA bundle',
  CERT_HAS_EXPIRED: 'its certificate has expired',
};

function reasonOf(cause: unknown): string {
  const code = connectionCode(cause);
  if (code && words[code]) return words[code];
  const deepest = cause instanceof Error && cause.cause instanceof Error ? cause.cause : cause;
  const text = deepest instanceof Error ? deepest.message : String(deepest);
  return `${text}${code ? ` (${code})` : ''}`.replace(/\.$/, '');
}
