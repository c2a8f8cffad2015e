// grpc.reflection.v1.ServerReflection, so that `buf curl` and grpcurl need no .proto files.
import { type DescFile, type DescService, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { FileDescriptorProtoSchema } from "@bufbuild/protobuf/wkt";
import { Code, type ServiceImpl } from "@connectrpc/connect";
import type {
  ServerReflection,
  ServerReflectionRequest,
  ServerReflectionResponseSchema,
} from "#gen/grpc/reflection/v1/reflection";

type Answer = MessageInitShape<typeof ServerReflectionResponseSchema>["messageResponse"];

export function createReflectionService(services: readonly DescService[]): ServiceImpl<typeof ServerReflection> {
  const files = new Map<string, DescFile>();
  const symbols = new Map<string, DescFile>();
  for (const service of services) addFile(service.file, files, symbols);
  return {
    async *serverReflectionInfo(requests) {
      for await (const request of requests) {
        yield {
          validHost: request.host,
          originalRequest: request,
          messageResponse: answer(request, services, files, symbols),
        };
      }
    },
  };
}

function answer(
  request: ServerReflectionRequest,
  services: readonly DescService[],
  files: ReadonlyMap<string, DescFile>,
  symbols: ReadonlyMap<string, DescFile>,
): Answer {
  const asked = request.messageRequest;
  switch (asked.case) {
    case "listServices":
      return {
        case: "listServicesResponse",
        value: { service: services.map((service) => ({ name: service.typeName })) },
      };
    case "fileByFilename":
      return fileAnswer(files.get(asked.value), asked.value);
    case "fileContainingSymbol":
      return fileAnswer(symbols.get(asked.value), asked.value);
    case "allExtensionNumbersOfType":
      return { case: "allExtensionNumbersResponse", value: { baseTypeName: asked.value, extensionNumber: [] } };
    case "fileContainingExtension":
      return failure(Code.NotFound, "No extensions are served.");
    default:
      return failure(Code.InvalidArgument, "The request asks for nothing.");
  }
}

/** A file with everything that it imports, so that the client needs one call. */
function fileAnswer(file: DescFile | undefined, name: string): Answer {
  if (!file) return failure(Code.NotFound, `Nothing is known of "${name}".`);
  const all = new Map<string, DescFile>();
  addFile(file, all, new Map());
  return {
    case: "fileDescriptorResponse",
    value: { fileDescriptorProto: [...all.values()].map((each) => toBinary(FileDescriptorProtoSchema, each.proto)) },
  };
}

function failure(errorCode: Code, errorMessage: string): Answer {
  return { case: "errorResponse", value: { errorCode, errorMessage } };
}

function addFile(file: DescFile, files: Map<string, DescFile>, symbols: Map<string, DescFile>): void {
  if (files.has(file.proto.name)) return;
  files.set(file.proto.name, file);
  for (const each of [...file.messages, ...file.enums, ...file.services]) symbols.set(each.typeName, file);
  for (const service of file.services) {
    for (const method of service.methods) symbols.set(`${service.typeName}.${method.name}`, file);
  }
  for (const dependency of file.dependencies) addFile(dependency, files, symbols);
}
