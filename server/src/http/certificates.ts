// TLS where nobody gave a certificate: an authority of this installation's own, made at the first start, and certificates by it for the names
// that the server is reached by. Whoever trusts the authority once trusts every later certificate.
// Invariants: keys lie in files that only the server's user reads; the authority stays as long as it is good; what is nearly over, or does
// not hold for a name, is made anew at the start.
import 'reflect-metadata'; // the library asks for it, ahead of itself
import { type webcrypto, X509Certificate } from 'node:crypto';
import { chmodSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { isIP } from 'node:net';
import * as x509 from '@peculiar/x509';
import { authorityFiles } from './authority-files.ts';

export interface OwnCertificates {
  /** The data folder. */
  data: string;
  /** Host names and addresses that the server is reached by. */
  names: readonly string[];
  now: number;
}

const day = 86_400_000;
const authorityDays = 3_650;
/** Longer ones are refused by some programs. */
const serverDays = 397;
const renewDays = 30;
const algorithm = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' } as const;

interface Pair {
  certificate: x509.X509Certificate;
  keys: webcrypto.CryptoKeyPair;
}

type Files = ReturnType<typeof authorityFiles>;

/** Makes what is missing, over soon or for other names. */
export async function certify({ data, names, now }: OwnCertificates): Promise<void> {
  const files = authorityFiles(data);
  mkdirSync(files.folder, { recursive: true, mode: 0o700 });
  chmodSync(files.folder, 0o700);
  const kept = await keptAuthority(files, now);
  if (kept && isGood(files.certificate, names, now, kept.certificate)) return;
  const authority = kept ?? (await makeAuthority(now));
  if (!kept) {
    await keep(files.authorityKey, authority.keys);
    write(files.authority, authority.certificate.toString('pem'), 0o644);
  }
  const server = await makeServer(authority, names, now);
  await keep(files.key, server.keys);
  write(files.certificate, `${server.certificate.toString('pem')}\n${authority.certificate.toString('pem')}`, 0o644);
}

async function makeAuthority(now: number): Promise<Pair> {
  const keys = await crypto.subtle.generateKey(algorithm, true, ['sign', 'verify']);
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    name: [{ O: ['Stellwerk'] }, { CN: [`Stellwerk authority ${crypto.randomUUID().slice(0, 8)}`] }],
    ...validity(now, authorityDays),
    keys,
    signingAlgorithm: algorithm,
    extensions: [
      new x509.BasicConstraintsExtension(true, 0, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
      await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  });
  return { certificate, keys };
}

async function makeServer(authority: Pair, names: readonly string[], now: number): Promise<Pair> {
  const keys = await crypto.subtle.generateKey(algorithm, true, ['sign', 'verify']);
  const certificate = await x509.X509CertificateGenerator.create({
    subject: [{ O: ['Stellwerk'] }, { CN: ['Stellwerk server'] }],
    issuer: authority.certificate.subject,
    ...validity(now, serverDays),
    publicKey: keys.publicKey,
    signingKey: authority.keys.privateKey,
    signingAlgorithm: algorithm,
    extensions: [
      new x509.BasicConstraintsExtension(false, undefined, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
      new x509.ExtendedKeyUsageExtension([x509.ExtendedKeyUsage.serverAuth]),
      new x509.SubjectAlternativeNameExtension(
        names.map((value) => ({ type: isIP(value) ? ('ip' as const) : ('dns' as const), value })),
      ),
      await x509.AuthorityKeyIdentifierExtension.create(authority.keys.publicKey),
      await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  });
  return { certificate, keys };
}

/** From a day before: clocks differ. */
const validity = (now: number, days: number) => ({
  serialNumber: `01${crypto.randomUUID().replaceAll('-', '')}`,
  notBefore: new Date(now - day),
  notAfter: new Date(now + days * day),
});

async function keptAuthority(files: Files, now: number): Promise<Pair | undefined> {
  const [text, key] = [textOf(files.authority), textOf(files.authorityKey)];
  if (text === undefined || key === undefined || endsSoon(new X509Certificate(text), now)) return undefined;
  chmodSync(files.authorityKey, 0o600); // a restored one, too
  const pkcs8 = x509.PemConverter.decodeFirst(key);
  const privateKey = await crypto.subtle.importKey('pkcs8', pkcs8, algorithm, false, ['sign']);
  const certificate = new x509.X509Certificate(text);
  return { certificate, keys: { privateKey, publicKey: await certificate.publicKey.export(algorithm, ['verify']) } };
}

function isGood(file: string, names: readonly string[], now: number, authority: x509.X509Certificate): boolean {
  const text = textOf(file);
  if (text === undefined) return false;
  const certificate = new X509Certificate(text);
  const isFor = (name: string) => (isIP(name) ? certificate.checkIP(name) : certificate.checkHost(name)) !== undefined;
  const isOurs = certificate.checkIssued(new X509Certificate(authority.toString('pem')));
  return isOurs && !endsSoon(certificate, now) && names.every(isFor);
}

const endsSoon = ({ validTo }: X509Certificate, now: number) => Date.parse(validTo) < now + renewDays * day;

async function keep(file: string, { privateKey }: webcrypto.CryptoKeyPair): Promise<void> {
  const pkcs8 = await crypto.subtle.exportKey('pkcs8', privateKey);
  write(file, x509.PemConverter.encode(pkcs8, 'PRIVATE KEY'), 0o600);
}

/** Whole or not at all, and never open to others first. */
function write(file: string, text: string, mode: number): void {
  writeFileSync(`${file}.new`, `${text.trim()}\n`, { mode });
  chmodSync(`${file}.new`, mode);
  renameSync(`${file}.new`, file);
}

function textOf(file: string): string | undefined {
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}
