// The addresses at which container programs pull images: OCI's distribution specification, its read side. Its own words for errors,
// and its own way to sign in: who has no good token is told where to get one with user name and token.
import { ServiceError } from '@stellwerk/contract/errors.ts';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { asUser } from '../access/access.ts';
import { headers, type Pulled, type Registry, type Repository, tokenSeconds } from '../registry/registry.ts';
import { OpenStreams } from './open-streams.ts';
import { sendDownload } from './streams.ts';

export const registryPrefix = '/v2/';
const tokenPath = `${registryPrefix}token`;
const listLimit = 1_000;

interface RegistryBinding {
  registry: Registry;
  publicUrl: string | undefined;
  /** Aborted when the server stops. */
  stopping: AbortSignal;
}

type Asked = FastifyRequest<{
  Params: { workspace: string; image: string; reference: string };
  Querystring: Record<string, unknown>;
}>;

export function bindRegistry(app: FastifyInstance, { registry, publicUrl, stopping }: RegistryBinding): void {
  const streams = new OpenStreams();
  /** Refuses with what the caller must ask for, and where. */
  const admit = async (request: Asked, reply: FastifyReply, scope: Repository | 'catalog' | undefined) => {
    const token = /^Bearer +([\x21-\x7e]{1,8192})$/i.exec(request.headers.authorization ?? '')?.[1];
    try {
      return await registry.admit(token, scope);
    } catch (error) {
      if (error instanceof ServiceError && error.code === 'unauthenticated')
        reply.header('www-authenticate', challenge(request, publicUrl, scope, token !== undefined));
      throw error;
    }
  };
  const pull = async (request: Asked, reply: FastifyReply, find: (from: Repository) => Promise<Pulled>) => {
    const caller = await admit(request, reply, request.params);
    const pulled = await find(request.params);
    reply.header(headers.digest, pulled.digest);
    if (request.method === 'HEAD') {
      pulled.stream.destroy();
      return reply
        .type(pulled.contentType)
        .header('content-length', String(pulled.sizeBytes))
        .header('accept-ranges', 'bytes')
        .send();
    }
    streams.open(caller, reply.raw);
    const end = () => void pulled.stream.destroy(new Error('The server is stopping.'));
    stopping.addEventListener('abort', end, { once: true });
    reply.raw.once('close', () => stopping.removeEventListener('abort', end));
    return sendDownload(reply, pulled);
  };

  const at = (method: ['GET'] | ['GET', 'HEAD'], path: string, handler: (...of: [Asked, FastifyReply]) => unknown) =>
    app.route({
      method,
      url: registryPrefix + path,
      onRequest: async (_request, reply) => void reply.header(headers.version, 'registry/2.0'),
      handler: handler as never,
    });
  at(['GET', 'HEAD'], '', async (request, reply) => {
    await admit(request, reply, undefined);
    return reply.type('application/json').serializer(String).send('{}');
  });
  at(['GET'], 'token', async (request, reply) => {
    const { user, password } = credentialsOf(request, reply);
    const { token, issuedAt } = await registry.signIn(user, password, scopesOf(request)).catch((error: unknown) => {
      reply.header('www-authenticate', 'Basic realm="stellwerk"');
      throw error;
    });
    return { token, access_token: token, expires_in: tokenSeconds, issued_at: issuedAt };
  });
  at(['GET'], '_catalog', async (request, reply) => {
    const caller = asUser(await admit(request, reply, 'catalog'));
    const page = pageOf(request);
    const found = await registry.catalog(caller, page.after, page.limit + 1);
    return { repositories: cut(request, reply, found, page.limit) };
  });
  at(['GET'], ':workspace/:image/tags/list', async (request, reply) => {
    await admit(request, reply, request.params);
    const page = pageOf(request);
    const found = await registry.tags(request.params, page.after, page.limit + 1);
    const { workspace, image } = request.params;
    return { name: `${workspace}/${image}`, tags: cut(request, reply, found, page.limit) };
  });
  at(['GET', 'HEAD'], ':workspace/:image/manifests/:reference', (request, reply) =>
    pull(request, reply, (from) => registry.manifest(from, request.params.reference)),
  );
  at(['GET', 'HEAD'], ':workspace/:image/blobs/:reference', (request, reply) =>
    pull(request, reply, (from) => registry.blob(from, request.params.reference, request.headers.range)),
  );
}

/** The caller reaches us by some name; without a public one, by that the token is to be had, too. */
function challenge(
  request: Asked,
  publicUrl: string | undefined,
  scope: Repository | 'catalog' | undefined,
  hasToken: boolean,
): string {
  const realm = (publicUrl ? new URL(publicUrl).origin : `${request.protocol}://${request.host}`) + tokenPath;
  const wanted = scope === 'catalog' ? 'registry:catalog:*' : scope && pullScope(scope);
  return [
    `Bearer realm="${realm}"`,
    'service="stellwerk"',
    ...(wanted ? [`scope="${wanted}"`] : []),
    ...(hasToken ? [`error="${wanted ? 'insufficient_scope' : 'invalid_token'}"`] : []),
  ].join(',');
}

/** Of an address that could be that of a repository: others must not get into a header. */
function pullScope({ workspace, image }: Repository): string | undefined {
  return /^[a-z0-9-]+\/[a-z0-9._-]+$/.test(`${workspace}/${image}`)
    ? `repository:${workspace}/${image}:pull`
    : undefined;
}

function credentialsOf(request: Asked, reply: FastifyReply): { user: string; password: string } {
  const encoded = /^Basic +([A-Za-z0-9+/=_-]{1,4096})$/i.exec(request.headers.authorization ?? '')?.[1];
  const [, user, password] = /^([^:]*):(.*)$/s.exec(Buffer.from(encoded ?? '', 'base64').toString()) ?? [];
  if (user && password) return { user, password };
  reply.header('www-authenticate', 'Basic realm="stellwerk"');
  const message = 'Images are pulled by who is signed in: the user name, and a token of that user as the password.';
  throw new ServiceError('unauthenticated', 'access.sign-in-needed', message);
}

/** Given more than once, or several in one with spaces between. */
function scopesOf({ query }: Asked): string[] {
  return [query.scope].flat().flatMap((scope) => (typeof scope === 'string' ? scope.split(' ') : []));
}

function pageOf({ query }: Asked): { after: string | undefined; limit: number } {
  const { n = String(listLimit), last } = query;
  if (typeof n !== 'string' || !/^\d{1,9}$/.test(n))
    throw new ServiceError('invalid-argument', 'request.invalid', 'n: must be a number.');
  if (last !== undefined && (typeof last !== 'string' || last.length > 2_000))
    throw new ServiceError('invalid-argument', 'request.invalid', 'last: must be a name of the page before.');
  return { after: last, limit: Math.min(Number(n), listLimit) };
}

/** One more was read than is shown, to know whether there is another page. */
function cut(request: Asked, reply: FastifyReply, found: string[], limit: number): string[] {
  const shown = found.slice(0, limit);
  const last = shown.at(-1);
  if (found.length > limit && last !== undefined) {
    const path = request.url.split('?')[0]!;
    reply.header('link', `<${path}?n=${limit}&last=${encodeURIComponent(last)}>; rel="next"`);
  }
  return shown;
}
