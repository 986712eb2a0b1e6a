// Every store: importing one declares its tables and transactions; the migrations are applied in this order.
import { accessMigrations } from './access/store.ts';
import { activityMigrations } from './activity/store.ts';
import { blobMigrations } from './blob/store.ts';
import './collection/store.ts';
import { computeMigrations } from './compute/store.ts';
import { datastoreMigrations } from './datastore/store.ts';
import type { Migration } from './db/migrations.ts';
import { webServiceMigrations } from './deployment/web-service/store.ts';
import { environmentMigrations } from './environment/store.ts';
import { experimentMigrations } from './experiment/store.ts';
import { imageMigrations } from './image/store.ts';
import './model/search.ts';
import { modelMigrations } from './model/store.ts';
import './run/files.ts';
import './run/lifecycle.ts';
import './run/measure.ts';
import './run/query/query.ts';
import './run/selections.ts';
import { runMigrations } from './run/store.ts';
import './run/target-use.ts';
import './run/trash.ts';
import { snapshotMigrations } from './snapshot/store.ts';
import './telemetry/logs.ts';
import './telemetry/metrics.ts';
import { telemetryMigrations } from './telemetry/store.ts';
import { trashMigrations } from './trash/store.ts';
import './trash/trash.ts';
import { vaultMigrations } from './vault/store.ts';
import { workspaceMigrations } from './workspace/store.ts';

export const migrations: Migration[] = [
  ...accessMigrations,
  ...vaultMigrations,
  ...activityMigrations,
  ...blobMigrations,
  ...snapshotMigrations,
  ...datastoreMigrations,
  ...workspaceMigrations,
  ...trashMigrations,
  ...environmentMigrations,
  ...computeMigrations,
  ...experimentMigrations,
  ...runMigrations,
  ...modelMigrations,
  ...telemetryMigrations,
  ...imageMigrations,
  ...webServiceMigrations,
];
