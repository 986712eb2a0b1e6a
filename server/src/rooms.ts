// Puts the rooms together. What a lower room needs of a higher one is handed down here as a function. Nothing is decided here.
import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { basename, join } from 'node:path';
import { knownHosts } from '@stellwerk/contract/hosts.ts';
import { Access, asUser, type Caller } from './access/access.ts';
import { Activities, ActivityWorker } from './activity/activities.ts';
import { assetPath } from './assets.ts';
import { Backups } from './backup/backups.ts';
import { Blobs } from './blob/blobs.ts';
import type { Digest } from './blob/bytes.ts';
import { FileBytes } from './blob/files.ts';
import { Collections, EmptyTrash } from './collection/collections.ts';
import { ComputeChanges, Computes, Tending } from './compute/computes.ts';
import { HostServices } from './compute/kinds/host/services.ts';
import { usedMarker } from './compute/kinds/host/unpacked-package.ts';
import type { Config } from './config.ts';
import { fetched, partsOf, textOf } from './contents.ts';
import { Datastores } from './datastore/datastores.ts';
import type { Database } from './db/database.ts';
import { Replicas, Rollout, Supervisor, WebServices } from './deployment/web-service/web-services.ts';
import { Environments, PackageIndexes } from './environment/environments.ts';
import { isolationHere } from './exec/sandbox.ts';
import { removeUnused, together } from './exec/unused.ts';
import { Experiments } from './experiment/experiments.ts';
import { Gateway } from './gateway/gateways.ts';
import type { Service } from './http/service.ts';
import { ImageBuilding, Images, imageLayerCache, imageShelf, Recipes } from './image/images.ts';
import { imageKinds, trainingImages } from './image/kinds.ts';
import type { Incidents } from './incidents.ts';
import { ownCertificate, servicesUrl } from './installation.ts';
import { Models } from './model/models.ts';
import { OciImages, searchRegistries } from './oci/oci-images.ts';
import { Registry } from './registry/registry.ts';
import { JobOrders, Leases, RunDisposal, RunSelections, Runs, runExecutor, Sessions, TargetUse } from './run/runs.ts';
import { Snapshots } from './snapshot/snapshots.ts';
import { targetKinds } from './target-kinds.ts';
import { Journals } from './telemetry/journals.ts';
import { Logs } from './telemetry/logs.ts';
import { Metrics } from './telemetry/metrics.ts';
import { Trash } from './trash/trash.ts';
import { Secrets, type Vault } from './vault/vault.ts';
import { version } from './version.ts';
import { defaultDatastore, Workspaces } from './workspace/workspaces.ts';

/** What every room may be given. */
export interface Ground {
  config: Config;
  db: Database;
  incidents: Incidents;
  vault: Vault;
  now(): number;
  newId(): string;
  /** Where users and runners reach the server; known once it listens. */
  url(): string;
  /** Where what runs on this machine reaches it. */
  urlHere(): string;
  wheel: string;
}

export type Rooms = ReturnType<typeof buildRooms>;

export function buildRooms(ground: Ground) {
  const { config, db, now, newId, incidents, vault } = ground;
  const inData = (...names: string[]) => join(config.data, ...names);
  const moment = () => ({ now: now(), at: new Date(now()).toISOString() });
  const steadyMs = () => performance.now();
  const seal = (secret: string, place: string) => vault.seal(secret, place);
  const incident = (error: unknown) => incidents.record(error);

  const secret = () => randomBytes(32).toString('base64url');
  const access = new Access({ db, now, newId, secret, publicUrl: ground.url });
  const activities = new Activities({ db, now, folder: inData('activities') });
  const bytes = new FileBytes(inData('blobs'));
  const blobs = new Blobs({ db, bytes, folder: inData('uploads'), now });
  const secrets = new Secrets({ db, vault, now, audit: access.audit });
  const packageIndexes = new PackageIndexes({ db, vault });
  const environments = new Environments({
    cacheDir: join(config.cache, 'server'),
    inherited: config.packageEnvironment,
    indexes: () => packageIndexes.settings(),
    box: config.isLoopback ? undefined : { pythonPackage: ground.wheel, hidden: [config.data] },
  });

  // Rooms that know of runs are told by functions, since runs are above them.
  const snapshots = new Snapshots({
    db,
    bytes,
    blobs,
    folder: inData('uploads'),
    now,
    snapshotOf: (workspace, run) => runs.snapshotOf(workspace, run),
  });
  const datastores = new Datastores({
    db,
    now,
    folderOf: (workspace) => inData('datastores', workspace.toLowerCase()),
    contentOf: (workspace, digest, caller) => blobs.contentOf(workspace, digest, caller),
    mayUse: (caller, datastore, path, way) => runs.mayUseDatastore(caller, datastore, path, way),
  });
  const use = new TargetUse({ db, moment });
  const caBundle = ownCertificate(config);
  const compute = targetKinds({
    config,
    wheel: ground.wheel,
    urlHere: ground.urlHere,
    publicUrl: ground.url,
    ...(caBundle !== undefined && { caBundle }),
    uv: (watch) => environments.uv(watch),
    openSecret: (...of) => secrets.open(...of),
    secrets,
  });
  const computes = new Computes({
    stores: { db, activities },
    now,
    newId,
    kinds: compute,
    loopbackOnly: config.isLoopback,
    runs: use,
  });
  const computeChanges = new ComputeChanges({ db, kinds: compute, runs: use });
  const tending = new Tending({ db, kinds: compute, incident });

  const trash = new Trash({
    db,
    now,
    newId,
    keepMs: config.trashMs,
    kinds: {
      run: { restore: (entry) => disposal.runs.restore(entry), remove: (...of) => disposal.runs.remove(...of) },
      experiment: {
        restore: (entry) => disposal.experiments.restore(entry),
        remove: (...of) => disposal.experiments.remove(...of),
      },
      model: { restore: (entry) => models.discarded.restore(entry), remove: (...of) => models.discarded.remove(...of) },
    },
  });
  const workspaces = new Workspaces({
    db,
    now,
    newId,
    furnish: (workspace) => datastores.createDefault(workspace, defaultDatastore),
    clear: async (workspace) => {
      await Promise.all([
        datastores.destroyDefault(workspace),
        blobs.clear(workspace),
        logs.clear(workspace),
        activities.sweepLogs(),
      ]);
    },
  });
  const leases = new Leases({ db, moment, steadyMs, leaseSeconds: config.leases.runSeconds, incident });
  const orders = new JobOrders({
    db,
    moment,
    environments,
    snapshots,
    createToken: (of, goodForMs) => access.authenticator.createRunToken(of, goodForMs),
    settings: {
      leaseSeconds: config.leases.runSeconds,
      serverUrl: { here: () => ground.urlHere(), elsewhere: () => ground.url() },
      ...(caBundle !== undefined && { caBundle }),
      unseal: (sealed, place) => vault.unseal(sealed, place),
      openSecret: (...of) => secrets.open(...of),
    },
  });
  const disposal = new RunDisposal({ db, trash, removeLogs: (all) => logs.remove(all) });
  const selections = new RunSelections({
    db,
    moment,
    newId,
    trash,
    usesOf: (digests) => blobs.usesOf(digests),
    contentsOf: (snapshot) => snapshots.contentsOf(snapshot),
    sizeOfLogs: (all) => logs.sizeOf(all),
  });
  const runs = new Runs({
    db,
    moment,
    stores: { bytes, disposal, selections },
    orders,
    leases,
    intake: {
      computes,
      snapshots,
      environments,
      newId,
      seal,
      hasSecret: (...of) => secrets.has(...of),
      requireDatastore: (workspace, datastore) => datastores.get({ workspace, datastore }),
    },
  });
  const placeOf = (workspace: string, run: string) => runs.placeOf(workspace, run);
  const metrics = new Metrics({ db, placeOf, below: (workspace, run) => runs.below(workspace, run) });
  const journals = new Journals({ db, placeOf, append: (of, caller, body) => runs.appendJournal(of, caller, body) });
  const logs = new Logs({
    db,
    folder: inData('logs'),
    placeOf,
    fence: (of, caller) => runs.fence(of, caller),
    onChange: (key, listener) => runs.onChange(key, listener),
  });
  const models = new Models({
    stores: { db, bytes, trash },
    now,
    sizeOf: (workspace, digest, caller) => blobs.sizeOf(workspace, digest, caller),
    filesOf: (workspace, run, path) => runs.filesOf(workspace, run, path),
    within: (workspace, ancestor, run) => runs.within(workspace, ancestor, run),
  });

  const oci = new OciImages({
    bytes: blobs.own(),
    cacheDir: join(config.cache, 'images'),
    platform: { os: 'linux', architecture: process.arch === 'arm64' ? 'arm64' : 'amd64' },
    outbound: async () => ({ allowedHosts: config.allowedHosts, ...(await environments.network()) }),
    registries: () => (config.imageRegistry ? [config.imageRegistry] : searchRegistries(config.registriesFiles)),
  });
  const imageNeeds = {
    oci,
    bytes,
    environments,
    layerCache: imageLayerCache(db),
    cacheDir: config.cache,
    scorerDir: assetPath('scorer'),
  };
  const kinds = imageKinds(imageNeeds);
  const recipes = new Recipes({ blobs, environments, readText: (digest: Digest) => textOf(bytes, digest) });
  const pulled = { bytes: blobs.own(), shelf: imageShelf(db), partsOf: (digest: Digest) => oci.partsOf(digest) };
  const entry = { authenticator: access.authenticator, isRunOn: (...of: Parameters<Runs['isOn']>) => runs.isOn(...of) };
  const registry = new Registry({ images: pulled, access: entry, workspaces, sealing: vault, now, url: ground.url });
  const training = trainingImages(imageNeeds, registry);
  const images = new Images({ stores: { db, registry }, kinds, models, recipes, now, newId });
  const building = new ImageBuilding({
    db,
    kinds,
    models,
    now,
    fetched: (workspace, datastore, path, signal) =>
      fetched(datastores, { workspace, datastore, path }, inData('uploads'), signal),
  });

  const gateway = new Gateway({
    folder: inData('gateway'),
    settings: {
      host: config.listen,
      port: config.servicesPort,
      version,
      hosts: knownHosts(config.listen, config.publicUrl, hostname()),
      accessLog: false,
      ...(config.tls && { tls: { certificateFile: config.tls.certificate, keyFile: config.tls.key } }),
    },
    program: { command: process.execPath, args: ['--disable-warning=ExperimentalWarning', assetPath('gateway')] },
  });
  const hostServices = new HostServices({ folder: inData('replicas'), isolation: isolationHere });
  const replicas = new Replicas({
    db,
    images,
    gateway,
    hostOf: async (workspace, target, fresh) => {
      const { driver } = await (fresh ? computes.require(workspace, target) : computes.find(workspace, target));
      if (!driver.hostsServices) return { reason: `its kind ${driver.kind} only trains.` };
      // Where others can reach the server, what they deploy must not run with the server's own rights.
      if (!config.isLoopback && (await isolationHere()) === 'none')
        return { reason: 'this machine refuses user namespaces, and others can reach this server.' };
      return hostServices;
    },
    keyHashes: (row) => services.keyHashes(row),
    servicesUrl: (port = config.servicesPort) => servicesUrl(config, ground.url(), port),
  });
  const services = new WebServices({ db, images, replicas, vault, now, newId });
  const rollout = new Rollout({ db, replicas, now });
  const supervisor = new Supervisor({ db, replicas, now, incident });

  const collections = new Collections({
    db,
    now,
    newId,
    everyMs: config.collectEveryMs,
    incident,
    collecting: {
      db,
      trash,
      blobs,
      snapshots,
      images: {
        forgetLayers: () => images.forgetLayers(),
        referToParts: () => images.referToParts((digest) => partsOf(oci, bytes, digest)),
      },
      files: {
        logs,
        activities,
        cache: async (unused) =>
          together([
            await oci.sweepRoots(await images.inUse(), unused),
            await environments.removeUnused(unused),
            // Those that the runner makes, here and for others of this user.
            await removeUnused(join(config.cache, 'environments'), '.stellwerk.json', unused),
            await removeUnused(inData('runner'), usedMarker, unused),
          ]),
      },
    },
  });
  const emptyTrash = new EmptyTrash({ now, trash, runs, models, selections });

  const worker = new ActivityWorker({
    db,
    activities,
    now,
    incident,
    leaseMs: config.leases.activityMs,
    executors: {
      run: runExecutor({ db, moment, steadyMs, computes, orders, leases, images: training }),
      ...computeChanges.executors,
      'image.build': (work) => building.build(work),
      'web-service.deploy': (work) => rollout.apply(work),
      'web-service.update': (work) => rollout.apply(work),
      'web-service.scale': (work) => rollout.apply(work),
      'web-service.delete': (work) => rollout.remove(work),
      'runs.archive': (work) => selections.act(work),
      'runs.delete': (work) => selections.act(work),
      'trash.empty': (work) => emptyTrash.act(work),
      'server.collect': (work) => collections.act(work),
    },
  });
  activities.cancelWith({
    run: async ({ workspace, subject }, by) => {
      await runs.cancelFor(workspace, subject, by);
    },
  });

  const backups = new Backups({ folder: config.data, bytes, now, version });

  const service: Service = {
    server: {
      backup: (input) => backups.create(input),
      get: async () => ({
        product: 'stellwerk',
        version,
        api: 'v1',
        publicUrl: ground.url(),
        servicesUrl: servicesUrl(config, ground.url(), (await gateway.status())?.port ?? config.servicesPort),
        startedAt,
        ...(config.tls?.authority && { authority: readFileSync(config.tls.authority, 'utf8') }),
        wheel: `${ground.url()}/wheels/${basename(ground.wheel)}`,
      }),
      collectGarbage: (input, caller) => collections.collectGarbage(input, caller),
      rotateMasterKey: () => vault.rotateMasterKey(),
      getCollection: (input) => collections.getCollection(input),
      listCollections: () => collections.listCollections(),
    },
    me: {
      get: async (_input, caller: Caller) => {
        const { user } = asUser(caller);
        return { user: await access.users.get({ user }), roles: await access.members.rolesOf(user) };
      },
      setPassword: (input, caller) => access.signIns.setPassword(input, caller),
    },
    packageIndexes,
    signIns: access.signIns,
    users: access.users,
    tokens: access.tokens,
    members: access.members,
    audit: access.audit,
    secrets,
    workspaces,
    activities,
    compute: computes,
    snapshots,
    blobs,
    datastores,
    experiments: new Experiments({ db, now, discard: (...of) => disposal.discardExperiment(...of) }),
    runs,
    sessions: new Sessions({ db, newId, computes }),
    journals,
    metrics,
    logs,
    models,
    images,
    services,
    trash,
  };
  const startedAt = new Date(now()).toISOString();
  return {
    access,
    service,
    workspaces,
    runs,
    leases,
    environments,
    worker,
    tending,
    supervisor,
    gateway,
    services,
    collections,
    registry,
  };
}
