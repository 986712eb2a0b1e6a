// What the server answers, as its router has it; and what is said where it does not.
import { ServiceError } from '@stellwerk/contract/errors.ts';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';

export interface Route {
  method: string;
  /** With `:field` for what differs. */
  url: string;
}

/** Fills itself while routes are registered. */
export function routesOf(app: FastifyInstance): readonly Route[] {
  const routes: Route[] = [];
  app.addHook('onRoute', ({ method, url }) => {
    for (const one of [method].flat()) routes.push({ method: one, url });
  });
  return routes;
}

/** An address that is there, but not by this method, says by which. */
export function noSuchRoute(request: FastifyRequest, reply: FastifyReply, routes: readonly Route[]): ServiceError {
  const path = request.url.split('?')[0]!;
  const shown = `${request.method} ${path.slice(0, 200)}`;
  const allowed = methodsAt(path, routes);
  if (allowed.length === 0)
    return new ServiceError('not-found', 'request.unknown-route', `There is nothing at ${shown}.`);
  reply.header('allow', allowed.join(', '));
  return new ServiceError(
    'method-not-allowed',
    'request.unknown-route',
    `There is no ${shown}: this address answers ${allowed.join(' and ')}.`,
  );
}

/** As the router does, an address that is written out comes before one with fields. */
function methodsAt(path: string, routes: readonly Route[]): string[] {
  const fitting = routes.filter(({ url }) => leadsTo(url, path)).sort((a, b) => fieldsOf(a) - fieldsOf(b));
  return fitting.filter(({ url }) => url === fitting[0]!.url).map(({ method }) => method);
}

const fieldsOf = ({ url }: Route) => url.split('/:').length;

function leadsTo(url: string, path: string): boolean {
  const [wanted, given] = [url.split('/'), path.split('/')];
  const fits = (part: string, at: number) => part === given[at] || (part.startsWith(':') && given[at] !== '');
  return wanted.length === given.length && wanted.every(fits);
}
