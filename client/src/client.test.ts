import { ServiceError } from '@stellwerk/contract/errors.ts';
import { eachVerb } from '@stellwerk/contract/verbs.ts';
import { expect, it } from 'vitest';
import { createClient } from './client.ts';
import { Unreachable } from './failures.ts';
import { json, refusal, serve } from './local-server.fixture.ts';

it('has a call for every verb of the contract', () => {
  const client = createClient({ url: 'http://localhost' }) as unknown as Record<string, Record<string, unknown>>;
  for (const { noun, verb } of eachVerb()) expect(typeof client[noun]?.[verb], `${noun}.${verb}`).toBe('function');
});

it('puts fields into path, query and body as the contract says, whatever characters they have', async () => {
  const seen: { url: string; body: string; authorization: string | undefined }[] = [];
  await using server = await serve((request, response, body) => {
    seen.push({ url: request.url!, body: body.toString(), authorization: request.headers.authorization });
    json(response, 200, {});
  });
  const client = createClient({ url: `${server.url}/`, token: 'secret' });
  await client.runs.get({ workspace: 'team', run: 'ä b?#%2e&/'.replace('/', '') });
  await client.models.list({ workspace: 'team', tag: ['a=1', 'b&c'], latest: true });
  await client.runs.query({ workspace: 'team', filter: "tags.a = 'x'" });
  expect(seen.map(({ url }) => url)).toEqual([
    '/api/v1/workspaces/team/runs/%C3%A4%20b%3F%23%252e%26',
    '/api/v1/workspaces/team/models?tag=a%3D1&tag=b%26c&latest=true',
    '/api/v1/workspaces/team/runs/query',
  ]);
  expect(JSON.parse(seen[2]!.body)).toEqual({ filter: "tags.a = 'x'" });
  expect(seen.every(({ authorization }) => authorization === 'Bearer secret')).toBe(true);
});

it("gives the server's refusal as an error with reason, hint and details", async () => {
  await using server = await serve((_request, response) =>
    refusal(response, 409, 'conflict', 'model.in-use', { a: 1 }),
  );
  const client = createClient({ url: server.url });
  const error = await client.models.delete({ workspace: 'team', name: 'm', version: '1' }).catch((e: unknown) => e);
  expect(error).toBeInstanceOf(ServiceError);
  expect(error).toMatchObject({
    code: 'conflict',
    reason: 'model.in-use',
    hint: 'A hint of the server.',
    details: { a: 1 },
  });
});

it('tries a read again while the server is away, and does not repeat what could happen twice', async () => {
  let left = 2;
  await using server = await serve((_request, response) => {
    if (left-- > 0) refusal(response, 503, 'unavailable', 'server.stopping');
    else json(response, 200, { items: [] });
  });
  const client = createClient({ url: server.url });
  await expect(client.workspaces.list()).resolves.toEqual({ items: [] });
  expect(server.requests).toHaveLength(3);
  left = 1;
  const tried = client.runs.submit({ workspace: 'w1', experiment: 'e', configuration: { script: 'a' }, snapshot: 'x' });
  await expect(tried).rejects.toMatchObject({ reason: 'server.stopping' });
  expect(server.requests).toHaveLength(4);
});

it('repeats a submission that carries its own id when the connection is cut', async () => {
  let cut = true;
  await using server = await serve((request, response) => {
    if (cut) request.socket.destroy();
    else json(response, 200, { id: 'mine' });
    cut = false;
  });
  const client = createClient({ url: server.url });
  const input = { workspace: 'w1', experiment: 'e', configuration: { script: 'a' }, snapshot: 'x' };
  await expect(client.runs.submit({ ...input, id: 'mine' })).resolves.toMatchObject({ id: 'mine' });
  cut = true;
  await expect(client.runs.submit(input)).rejects.toBeInstanceOf(Unreachable);
});

it('says what is wrong when nothing listens, and when something else answers', async () => {
  const gone = await serve(() => {});
  await gone[Symbol.asyncDispose]();
  const nobody = createClient({ url: gone.url, retries: 0 });
  await expect(nobody.me.get()).rejects.toThrow(/cannot be reached: nothing listens there/);
  await using other = await serve((_request, response) => void response.writeHead(404).end('<html>'));
  await expect(createClient({ url: other.url }).me.get()).rejects.toThrow(
    /answered 404 Not Found, and not as Stellwerk does/,
  );
});

it('never carries a token along a redirect', async () => {
  const leaked: (string | undefined)[] = [];
  await using other = await serve((request, response) => {
    leaked.push(request.headers.authorization);
    json(response, 200, {});
  });
  await using server = await serve((_request, response) => void response.writeHead(302, { location: other.url }).end());
  await expect(createClient({ url: server.url, token: 'secret', retries: 0 }).me.get()).rejects.toBeInstanceOf(
    Unreachable,
  );
  expect(leaked).toEqual([]);
});
