// The authorities and certificates of a cluster, and for each of its parts and its administrator the kubeconfig that it signs in with.
import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

const days = ['-days', '2'];
const newKey = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];

export function makeCertificates(folder: string, node: string, address: string): void {
  mkdirSync(folder, { mode: 0o700 });
  const openssl = (...args: string[]) => execFileSync('openssl', args, { cwd: folder, stdio: 'ignore' });
  const authority = (name: string) =>
    openssl(
      'req',
      '-x509',
      ...newKey,
      '-keyout',
      `${name}.key`,
      '-out',
      `${name}.crt`,
      ...days,
      '-subj',
      `/CN=${name}`,
    );
  const signed = (name: string, subject: string, names = '', by = 'ca') => {
    openssl('req', ...newKey, '-keyout', `${name}.key`, '-out', `${name}.csr`, '-subj', subject);
    const more = names === '' ? '' : `subjectAltName=${names}\n`;
    writeFileSync(join(folder, `${name}.ext`), `extendedKeyUsage=clientAuth,serverAuth\n${more}`);
    const from = ['-CA', `${by}.crt`, '-CAkey', `${by}.key`, '-CAcreateserial'];
    openssl('x509', '-req', '-in', `${name}.csr`, '-out', `${name}.crt`, ...from, ...days, '-extfile', `${name}.ext`);
  };
  authority('ca');
  authority('front-ca');
  signed(
    'apiserver',
    '/CN=kube-apiserver',
    `DNS:kubernetes.default.svc,DNS:${node},IP:127.0.0.1,IP:${address},IP:10.96.0.1`,
  );
  signed('kubelet', `/CN=${node}`, `DNS:${node},IP:${address},IP:127.0.0.1`);
  signed('apiserver-kubelet', '/O=system:masters/CN=apiserver-kubelet');
  signed('front', '/CN=front-proxy-client', '', 'front-ca');
  for (const [name, subject] of [
    ['admin', '/O=system:masters/CN=admin'],
    ['node', `/O=system:nodes/CN=system:node:${node}`],
    ['controllers', '/CN=system:kube-controller-manager'],
    ['scheduler', '/CN=system:kube-scheduler'],
    ['proxy', '/CN=system:kube-proxy'],
  ] as const) {
    signed(name, subject);
    writeFileSync(join(folder, `${name}.kubeconfig`), kubeconfig(folder, name, `https://${address}:6443`), {
      mode: 0o600,
    });
  }
  openssl('genrsa', '-out', 'accounts.key', '2048');
  openssl('rsa', '-in', 'accounts.key', '-pubout', '-out', 'accounts.pub');
}

/** It names no file, so that it can be used anywhere. */
function kubeconfig(folder: string, name: string, server: string): string {
  const of = (file: string) => readFileSync(join(folder, file)).toString('base64');
  return `apiVersion: v1
kind: Config
clusters: [{name: test, cluster: {server: "${server}", certificate-authority-data: ${of('ca.crt')}}}]
users: [{name: ${name}, user: {client-certificate-data: ${of(`${name}.crt`)}, client-key-data: ${of(`${name}.key`)}}}]
contexts: [{name: test, context: {cluster: test, user: ${name}}}]
current-context: test
`;
}
