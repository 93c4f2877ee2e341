// What FAISS does for every kind of index (make one by its description, read and write it, set its parameters), for the two
// kinds that are used here: flat, and HNSW over flat. It stands in for FAISS' index_factory.cpp, index_read.cpp,
// index_write.cpp and AutoTune.cpp, which name every kind, so that all the others need not be compiled.
//
// Invariants: descriptions, parameters and files are FAISS' own; what this writes FAISS 1.12 reads, and the other way round.
// Another kind is refused.

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>
#include <string>

#include <faiss/AutoTune.h>
#include <faiss/IndexFlat.h>
#include <faiss/IndexHNSW.h>
#include <faiss/impl/FaissAssert.h>
#include <faiss/impl/io.h>
#include <faiss/impl/io_macros.h>
#include <faiss/index_factory.h>
#include <faiss/index_io.h>

namespace faiss {

Index* index_factory(int d, const char* description, MetricType metric, bool) {
    int neighbours = 0, end = 0;
    if (strcmp(description, "Flat") == 0) {
        return new IndexFlat(d, metric);
    }
    if (sscanf(description, "HNSW%d,Flat%n", &neighbours, &end) == 1 && end > 0 && description[end] == '\0' &&
        neighbours > 0) {
        return new IndexHNSWFlat(d, neighbours, metric);
    }
    FAISS_THROW_FMT("%s is none of the kinds of index that this build has: Flat, HNSW<n>,Flat", description);
}

ParameterSpace::ParameterSpace()
        : verbose(0), n_experiments(0), batchsize(1 << 30), thread_over_batches(false), min_test_duration(0) {}

void ParameterSpace::initialize(const Index*) {}

void ParameterSpace::set_index_parameter(Index* index, const std::string& name, double value) const {
    auto graph = dynamic_cast<IndexHNSW*>(index);
    if (graph && name == "efSearch") {
        graph->hnsw.efSearch = int(value);
    } else if (graph && name == "efConstruction") {
        graph->hnsw.efConstruction = int(value);
    } else {
        FAISS_THROW_FMT("this index has no parameter %s", name.c_str());
    }
}

namespace {

void read_header(Index* index, IOReader* f) {
    idx_t unused;
    READ1(index->d);
    READ1(index->ntotal);
    READ1(unused);
    READ1(unused);
    READ1(index->is_trained);
    READ1(index->metric_type);
    if (index->metric_type > METRIC_L2) {
        READ1(index->metric_arg);
    }
}

void write_header(const Index* index, IOWriter* f) {
    const idx_t unused = 1 << 20;
    WRITE1(index->d);
    WRITE1(index->ntotal);
    WRITE1(unused);
    WRITE1(unused);
    WRITE1(index->is_trained);
    WRITE1(index->metric_type);
    if (index->metric_type > METRIC_L2) {
        WRITE1(index->metric_arg);
    }
}

Index* read_flat(std::unique_ptr<IndexFlat> flat, IOReader* f) {
    read_header(flat.get(), f);
    flat->code_size = flat->d * sizeof(float);
    READXBVECTOR(flat->codes);
    FAISS_THROW_IF_NOT(flat->codes.size() == flat->ntotal * flat->code_size);
    return flat.release();
}

void write_flat(const IndexFlat* flat, IOWriter* f) {
    const uint32_t kind = fourcc(
            flat->metric_type == METRIC_INNER_PRODUCT ? "IxFI"
                    : flat->metric_type == METRIC_L2  ? "IxF2"
                                                      : "IxFl");
    WRITE1(kind);
    write_header(flat, f);
    WRITEXBVECTOR(flat->codes);
}

Index* read_graph(IOReader* f, int io_flags) {
    auto index = std::make_unique<IndexHNSWFlat>();
    read_header(index.get(), f);
    HNSW& graph = index->hnsw;
    READVECTOR(graph.assign_probas);
    READVECTOR(graph.cum_nneighbor_per_level);
    READVECTOR(graph.levels);
    READVECTOR(graph.offsets);
    READVECTOR(graph.neighbors);
    READ1(graph.entry_point);
    READ1(graph.max_level);
    READ1(graph.efConstruction);
    READ1(graph.efSearch);
    READ1_DUMMY(int)
    index->storage = read_index(f, io_flags);
    index->own_fields = index->storage != nullptr;
    return index.release();
}

void write_graph(const IndexHNSWFlat* index, IOWriter* f, int io_flags) {
    const uint32_t kind = fourcc("IHNf");
    WRITE1(kind);
    write_header(index, f);
    const HNSW& graph = index->hnsw;
    WRITEVECTOR(graph.assign_probas);
    WRITEVECTOR(graph.cum_nneighbor_per_level);
    WRITEVECTOR(graph.levels);
    WRITEVECTOR(graph.offsets);
    WRITEVECTOR(graph.neighbors);
    WRITE1(graph.entry_point);
    WRITE1(graph.max_level);
    WRITE1(graph.efConstruction);
    WRITE1(graph.efSearch);
    const int unused = 1;
    WRITE1(unused);
    write_index(index->storage, f, io_flags);
}

} // namespace

Index* read_index(IOReader* f, int io_flags) {
    uint32_t kind;
    READ1(kind);
    if (kind == fourcc("IxFI")) {
        return read_flat(std::make_unique<IndexFlatIP>(), f);
    }
    if (kind == fourcc("IxF2")) {
        return read_flat(std::make_unique<IndexFlatL2>(), f);
    }
    if (kind == fourcc("IxFl")) {
        return read_flat(std::make_unique<IndexFlat>(), f);
    }
    if (kind == fourcc("IHNf")) {
        return read_graph(f, io_flags);
    }
    FAISS_THROW_FMT("the file has a kind of index that this build has not: %s", fourcc_inv_printable(kind).c_str());
}

Index* read_index(const char* fname, int io_flags) {
    FileIOReader reader(fname);
    return read_index(&reader, io_flags);
}

void write_index(const Index* index, IOWriter* writer, int io_flags) {
    if (auto flat = dynamic_cast<const IndexFlat*>(index)) {
        write_flat(flat, writer);
    } else if (auto graph = dynamic_cast<const IndexHNSWFlat*>(index)) {
        write_graph(graph, writer, io_flags);
    } else {
        FAISS_THROW_MSG("an index of a kind that this build has not");
    }
}

void write_index(const Index* index, const char* fname, int io_flags) {
    FileIOWriter writer(fname);
    write_index(index, &writer, io_flags);
}

} // namespace faiss
