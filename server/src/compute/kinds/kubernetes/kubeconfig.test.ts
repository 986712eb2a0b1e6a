import { expect, test } from 'vitest';
import { readKubeconfig } from './kubeconfig.ts';

const encoded = (text: string) => Buffer.from(text).toString('base64');
const whole = (cluster: object = {}, user: object = {}) =>
  JSON.stringify({
    clusters: [
      {
        name: 'lab',
        cluster: { server: 'https://lab.example:6443', 'certificate-authority-data': encoded('ca'), ...cluster },
      },
    ],
    users: [
      { name: 'ada', user: { token: 'secret-token', ...user } },
      { name: 'grace', user: { 'client-certificate-data': encoded('cert'), 'client-key-data': encoded('key') } },
    ],
    contexts: [
      { name: 'one', context: { cluster: 'lab', user: 'ada' } },
      { name: 'two', context: { cluster: 'lab', user: 'grace', namespace: 'n' } },
      { name: 'broken', context: { cluster: 'lab', user: 'nobody' } },
    ],
    'current-context': 'one',
  });

test('a kubeconfig that holds everything itself is read, by its current context or the one that is named', () => {
  const one = readKubeconfig(whole());
  expect(one.name).toBe('lab (lab.example:6443)');
  expect(one.tls).toEqual({ ca: 'ca' });
  expect(one.headers).toEqual({ authorization: 'Bearer secret-token' });
  expect(readKubeconfig(whole(), 'two')).toMatchObject({ tls: { ca: 'ca', cert: 'cert', key: 'key' }, headers: {} });
});

test.each<[string, string, string | undefined, string]>([
  ['is no YAML', '\t{', undefined, 'not YAML'],
  ['is something else', 'apiVersion: v1\nclusters: 3\n', undefined, 'not a kubeconfig'],
  ['lacks the context that is named', whole(), 'three', 'one, two'],
  ['names a user that it has not', whole(), 'broken', 'has not'],
  ['is not for TLS', whole({ server: 'http://lab.example' }), undefined, 'not an https address'],
  ["names a file of the server's machine", whole({}, { tokenFile: '/etc/shadow' }), undefined, 'tokenFile'],
  ['names a program', whole({}, { exec: { command: 'sh' } }), undefined, 'exec'],
  ['names a proxy', whole({ 'proxy-url': 'http://10.0.0.1' }), undefined, 'proxy-url'],
  [
    'wants no certificate to be checked',
    whole({ 'insecure-skip-tls-verify': true }),
    undefined,
    'insecure-skip-tls-verify',
  ],
])('a kubeconfig that %s is refused with what to do', (_, text, context, message) => {
  const read = () => readKubeconfig(text, context);
  expect(read).toThrow(message);
  expect(read).not.toThrow('secret-token');
});
